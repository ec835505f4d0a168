"""The tests, and the outcomes of a few quick claims, under several instruction sets of the processor.

Usage: ``python tests/portable.py [ARGUMENTS OF PYTEST]``; without any, all tests run under each. A compiler rounds
otherwise for each set, and what then differs by more than rounding hangs on a tie.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

SETS = {"SSE4_2": "--xla_cpu_max_isa=SSE4_2", "AVX2": "--xla_cpu_max_isa=AVX2", "this processor's own": ""}
PLAIN = {"AVX2": "avx512f"}  # without this flag, Linux says, the processor's own instructions are that set
PAPERS = ("attention-resonator", "reverse-derivative-ascent", "lion-k", "two-timescale-extragradient-minimax")
CACHE = Path(__file__).parents[1] / ".attractor" / "portable"  # programs of one set must not serve another


def sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Those that differ on this processor; all of them where it does not say what it has."""
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    same = {name for name, flag in PLAIN.items() if "avx2" in flags and flag not in flags}
    return {name: flag for name, flag in SETS.items() if name not in same}


def run(name: str, flag: str, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess:
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    own = {
        "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": str(CACHE / name.split()[0]),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",  # as users compile; tests alone do without (conftest.py)
    }
    return subprocess.run([sys.executable, "-m", *arguments], env=os.environ | own, text=True, capture_output=capture)


def outcomes(name: str, flag: str) -> dict[str, str]:
    """``{"paper: claim": outcome}``; a claim that falls short is an outcome too, so the exit code does not matter."""
    found = run(name, flag, "attractor", "check", *PAPERS, "--json", capture=True)
    try:
        return {f"{v['slug']}: {v['claim']}": v["verdict"] for v in json.loads(found.stdout)}
    except (ValueError, KeyError) as error:
        raise SystemExit(f"{name}: no verdicts ({error!r})\n{found.stderr}") from error


def main(arguments: list[str]) -> int:
    """Exit code 1 if a test fails under one of the sets, or an outcome depends on it."""
    tried, arguments = sets(), arguments or ["-n", "2"]
    failed = [name for name, flag in tried.items() if run(name, flag, "pytest", *arguments).returncode != 0]
    verdicts = {name: outcomes(name, flag) for name, flag in tried.items()}
    reference = next(iter(verdicts.values()))
    differing = {claim for found in verdicts.values() for claim in found.keys() | reference.keys()
                 if found.get(claim) != reference.get(claim)}  # fmt: skip
    for claim in sorted(differing):
        print(f"{claim}: { ({name: found.get(claim) for name, found in verdicts.items()}) }")
    print(f"tests fail under: {', '.join(failed) or 'none'}; {len(reference) - len(differing)} of {len(reference)} "
          "outcomes agree")  # fmt: skip
    return int(bool(failed or differing))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
