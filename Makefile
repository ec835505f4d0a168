# Everything a user or a contributor runs. `make demo` and `make test` need nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The CPU build of torch, where one is at hand: it is wanted by the benchmark and by cross-checks only.
TORCH  := torch==2.13.0+cpu
# Other people's programs that tests compare with; without their dependencies, which would bring a second torch.
PEERS  := torchjd pytorch-optimizer curvlinops-for-pytorch backpack-for-pytorch linear_operator einops einconv unfoldNd tqdm \
  botorch gpytorch pyro-ppl multipledispatch pyre-extensions typing-inspect mypy_extensions

# Its threads wait for each other in a loop, which multiplies the cost of small decompositions.
export OPENBLAS_NUM_THREADS ?= 1
# Where it is set, every process of the tests compiles JAX and us from source anew: 4 s each.
export PYTHONDONTWRITEBYTECODE =

.PHONY: env demo test pytest test-times test-portable test-wheel test-flower mutants lint style types check nightly \
  replicated bench docs clean

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt $(TORCH) 2>/dev/null \
	  || echo "note: no CPU wheel of torch found; what compares with PyTorch is left out (pip install 'attractor[torch]')"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps -c constraints.txt $(PEERS) 2>/dev/null \
	  || echo "note: $(PEERS) not found; the tests that compare with them are left out"
	@touch $@

demo: env
	$(BIN)/attractor check lion-k two-timescale-extragradient-minimax c-rectified-flow
	$(BIN)/attractor compare digits-mlp adam adahessian muon lion --steps 500 --seeds 8 --budget 8 --report demo.html
	@echo "open demo.html; and the page: $(BIN)/attractor serve"

# The type checker takes one core for minutes, so it runs beside the tests.
test: env style
	$(BIN)/attractor check --stale --jobs 2 --minutes 40
	@$(MAKE) --no-print-directory --jobs 2 types pytest

pytest: env
	$(BIN)/python -m pytest -n 2

# CPU seconds by folder; programs of earlier runs are compiled anew, as in a clean clone.
test-times: env
	JAX_COMPILATION_CACHE_DIR=$$(mktemp -d) $(BIN)/python -m pytest -n 2 --cpu-times

# The tests, and the outcomes of a few quick claims, on the instructions of older processors and of this one.
test-portable: env
	$(BIN)/python tests/portable.py

# The built wheel in an empty environment without extras, under each Python from 3.11 that is here, then each extra
# alone; two minutes, and one more for each further Python.
test-wheel: env
	$(BIN)/python tests/wheel.py

# A Flower federation of real processes, in an environment of its own: flwr excludes versions that are pinned here.
test-flower:
	$(PYTHON) -m venv $(VENV)-flower
	grep -E '^(jax|equinox|optax|diffrax|lineax|optimistix|beartype|pytest)' constraints.txt > $(VENV)-flower/pins.txt
	$(VENV)-flower/bin/pip install --quiet --disable-pip-version-check --no-compile -c $(VENV)-flower/pins.txt \
	  -e '.[flwr]' beartype pytest pytest-xdist
	$(VENV)-flower/bin/python -m pytest -n 0 tests/distributed/test_flower.py

# Mistakes planted one at a time into the methods' modules, and which of them no test notices; about 10 s each.
MUTANTS ?= --seed 0 --number 60 --jobs 2
mutants: env
	$(BIN)/python tests/mutants.py $(MUTANTS)

lint: style types

style: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: env
	$(BIN)/pyright

check: env
	$(BIN)/attractor check --all --record --jobs 2

# All papers, oldest verdict first, and one more replication of every statistical claim, within HOURS each; on a Ray
# cluster by `make nightly BACKEND=ray ADDRESS=head:6379`, or without an address on this machine's cores.
HOURS   ?= 4
BACKEND ?= local
ADDRESS ?=
WHERE    = --jobs 2 --backend $(BACKEND) $(if $(ADDRESS),--address $(ADDRESS))
nightly: env
	-$(BIN)/attractor check --all --record --minutes $$(($(HOURS) * 60)) $(WHERE)
	-$(BIN)/attractor check --all --replication next --record --minutes $$(($(HOURS) * 60)) $(WHERE)

# The share of what holds, of the claims with seeds, that most of its replications confirm.
replicated: env
	@$(BIN)/python -c "from attractor.papers import record; kept, found = record.replicating(record.read_all().values()); \
	  print(f'{kept} of {found} holding claims are confirmed by most of their replications: {kept / found:.1%}')"

bench: env
	$(BIN)/python benchmarks/engine.py

docs: env
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .attractor site demo.html
