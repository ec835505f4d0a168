"""How long a search by meaning takes among 405 and 1,000,000 papers, and how much of the nearest it finds.

    python benchmarks/search.py [--papers 1000000] [--queries 100] [--folder DIR] [--json]

The papers are made up of sentences of our catalogue (four each, by chance, with a few words that nobody else has), so
that words are as frequent, and vectors as crowded, as in a library of one field. Times are wall-clock per query for
`meaning.search` as a whole (spelling, words by FTS5, vectors, fetching ten papers), after one query that loads what is
kept in memory; CPU times stand beside them, for a machine that does other things. Recall is of the ten nearest vectors,
against looking at all of them. With DIR, the library is kept there and used again.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from attractor.feed import Library, meaning
from attractor.feed.follows import entry_of
from attractor.papers.catalogue import catalogue

BATCH = 20_000
QUERIES = (
    "adaptive step sizes from curvature", "why does sharpness stop to grow", "offline reinforcement learning",
    "extragradient for games", "regularised neural operators for fluids", "federated learning with few clients",
    "can a network learn without backpropagation", "grokking", "sampling in one step from a diffusion model",
    "conserve mass in a learned simulator", "preconditoner for conjugate gradients", "Koopman",
)  # fmt: skip


def fill(library: Library, papers: int) -> None:
    """Add made-up papers, with vectors that are sums of their sentences', as far as there are fewer."""
    sentences = [s for p in catalogue().values() for s in (p.title, p.gist, p.claim)]
    known = meaning.embed(sentences)
    meaning.refresh(library)
    connection = library.connection
    have = connection.execute("SELECT coalesce(max(id), 0) FROM entries").fetchone()[0]
    for start in range(have, papers, BATCH):
        rng = np.random.default_rng(start)
        ids = np.arange(start + 1, min(start + BATCH, papers) + 1)
        picked = rng.integers(len(sentences), size=(len(ids), 4))
        vectors = 2 * known[picked[:, 0]] + known[picked[:, 1:]].sum(axis=1)
        vectors += rng.normal(scale=0.05, size=vectors.shape)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = []
        for i, four in zip(ids.tolist(), picked, strict=True):
            title, *abstract = (sentences[j] for j in four)
            rows.append((i, f"made-up:{i}", f"{title} {i}", " ".join([*abstract, f"zq{i} zr{i % 997}"])))
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO entries (id, uid, title, abstract, authors, categories, link, added, changed) "
            "VALUES (?, ?, ?, ?, '[]', '[]', '', '', '')", rows
        )  # fmt: skip
        blobs = [(i, v.tobytes()) for i, v in zip(ids.tolist(), vectors.astype(np.float16), strict=True)]
        connection.executemany("INSERT INTO vectors (entry, vector) VALUES (?, ?)", blobs)
        connection.execute("DELETE FROM vectors_due")
        connection.execute("COMMIT")


def measure(library: Library, queries: int) -> dict[str, float]:
    """Times of a search in milliseconds, recall of its vectors, memory in MB."""
    asked = [QUERIES[i % len(QUERIES)] + (f" zq{i + 1}" if i >= len(QUERIES) else "") for i in range(queries)]
    start = time.process_time()
    index = meaning.index(library)
    loading = time.process_time() - start
    meaning.search(library, asked[0], 10)
    wall, spent = [], []
    for query in asked:
        before, cpu = time.perf_counter(), time.process_time()
        meaning.search(library, query, 10)
        wall.append(1e3 * (time.perf_counter() - before))
        spent.append(1e3 * (time.process_time() - cpu))
    figures = {
        "papers": len(library), "wall_ms_median": float(np.median(wall)), "wall_ms_p95": float(np.quantile(wall, 0.95)),
        "cpu_ms_median": float(np.median(spent)), "cpu_ms_p95": float(np.quantile(spent, 0.95)),
        "index_cpu_s": loading, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    vectors = meaning.embed(list(dict.fromkeys(asked)))
    return figures | {"recall_at_10": recall(library, index, vectors)}


def recall(library: Library, index: meaning.Index, queries: np.ndarray, k: int = 10) -> float:
    """Share of the k nearest vectors, by looking at all, whose likeness the index's answers reach."""
    nearest = np.full((len(queries), k), -1.0)
    rows = library.connection.execute("SELECT vector FROM vectors")
    while found := rows.fetchmany(BATCH):
        vectors = np.frombuffer(b"".join(row["vector"] for row in found), np.float16).reshape(len(found), -1)
        nearest = np.sort(np.hstack([nearest, queries @ vectors.astype(np.float32).T]))[:, -k:]
    shares = []
    for query, best in zip(queries, nearest, strict=True):
        numbers, _ = index.nearest(query, meaning.CANDIDATES)
        _, own = meaning.vectors(library, "id IN (SELECT value FROM json_each(?))", (json.dumps(numbers.tolist()),))
        # By likeness and not by number: many papers may be equally near.
        shares.append(np.mean(np.sort(own @ query)[-k:] >= best[0] - 1e-5))
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papers", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, figures = arguments.folder or Path(temporary), []
        with Library(folder / "few.sqlite") as library:
            library.add(map(entry_of, catalogue().values()), "catalogue")
            figures.append(measure(library, arguments.queries))
        with Library(folder / f"{arguments.papers}.sqlite") as library:
            fill(library, arguments.papers)
            figures.append(measure(library, arguments.queries))
    if arguments.json:
        print(json.dumps(figures))
        return
    for found in figures:
        print(", ".join(f"{name} {value:,.2f}".removesuffix(".00") for name, value in found.items()))


if __name__ == "__main__":
    main()
