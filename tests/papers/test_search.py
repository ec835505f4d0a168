"""The catalogue and its search.

`search_queries.tsv` has one query for each of the 405 papers, phrased as somebody might who does not know the
paper's words: more than half of a query's words, on average, do not occur in the paper's row. Its two parts
measure different things:

- "tuned" (237 queries): the weights of `search.py` and the lists `concepts.txt` and `keywords.txt` were made
  in knowledge of these queries, so their figures say that the search does what it was built to do, no more.
- "held out" (168 queries): written, for the papers not in the first part, when everything was frozen, and
  scored once. The same hand wrote the lists and these queries: expect somewhat worse of others' queries.

The aim, set before anything was tuned, was recall@5 >= 0.85 on both parts. Measured: tuned 0.962 (recall@1
0.802, mean reciprocal rank 0.865); held out 0.845 (0.637, 0.733), which misses the aim by one query. On the
held-out part recall@5 is 0.756 without the keywords, 0.833 without the concepts, 0.714 without both, and
0.839 without the topics: the keywords carry the search; the other two add less than this sample can tell from
chance. As the lists stand today, tuned 0.962 (0.814, 0.878) and held out 0.857 (0.637, 0.736). The bound for
the held-out part guards against regressions and claims nothing. Do not tune on
that part.
"""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median

import numpy as np
import pytest

from attractor.papers import _text, build_index
from attractor.papers.catalogue import PATH, ROOMS, Paper, catalogue, find
from attractor.papers.search import INDEX, search

QUERIES = Path(__file__).with_name("search_queries.tsv")


def _queries(part: str) -> list[tuple[str, str]]:
    with QUERIES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [(row["query"], row["slug"]) for row in rows if row["part"] == part]


def _slugs(query: str, limit: int = 1_000, room: str | None = None) -> list[str]:
    return [paper.slug for paper, _ in search(query, limit, room)]


def _rank(query: str, slug: str) -> float:
    """Place of the paper in the answer, from 1; infinite if it is not there."""
    found = _slugs(query)
    return found.index(slug) + 1 if slug in found else float("inf")


# The catalogue


def test_catalogue_has_every_paper_once_in_order() -> None:
    rows = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 405
    assert len({row["slug"] for row in rows}) == len(rows)
    assert [(row["room"], row["slug"]) for row in rows] == sorted((row["room"], row["slug"]) for row in rows)
    assert list(catalogue()) == [row["slug"] for row in rows]


def test_catalogue_rows_have_just_the_public_keys() -> None:
    keys = {"slug", "title", "year", "arxiv", "authors", "room", "kind", "gist", "claim", "headline", "parts"}
    for line in PATH.read_text(encoding="utf-8").splitlines():
        assert json.loads(line).keys() == keys


def test_rooms_are_known_and_all_used() -> None:
    assert len(ROOMS) == 16
    assert {paper.room for paper in catalogue().values()} == set(ROOMS)


def test_papers_are_complete() -> None:
    kinds = {"method", "theory", "phenomenon", "application", "survey", "benchmark", "position"}
    for paper in catalogue().values():
        assert isinstance(paper, Paper)
        assert paper.kind in kinds
        assert paper.title
        assert paper.gist
        assert paper.claim
        assert isinstance(paper.parts, tuple)
        assert paper.parts


def test_catalogue_cannot_be_changed_through_its_answer() -> None:
    catalogue().clear()
    assert len(catalogue()) >= 405


def test_find() -> None:
    assert find("adahessian").room == "second_order"


def test_unknown_slug_is_suggested() -> None:
    with pytest.raises(ValueError, match=r"unknown paper 'adahesian', did you mean 'adahessian'"):
        find("adahesian")
    with pytest.raises(ValueError, match="did you mean 'i-bert'"):
        find("I_BERT")
    with pytest.raises(ValueError, match="unknown paper 'zzzzzzzz'; search"):
        find("zzzzzzzz")


# The index


def test_index_is_up_to_date() -> None:
    with np.load(INDEX, allow_pickle=False) as stored:
        assert stored["fingerprint"].tobytes().decode() == build_index.fingerprint(), (
            "index.npz is stale: run python -m attractor.papers.build_index"
        )
        fresh = build_index.build()
        assert set(stored.files) == set(fresh)
        for name in ("vocabulary", "names", "phrases", "pointers", "docs", "counts"):
            np.testing.assert_array_equal(stored[name], fresh[name], err_msg=name)
        # Rounding differs between machines, and with it the singular vectors, but hardly their values.
        np.testing.assert_allclose(stored["values"], fresh["values"], rtol=1e-4)


def test_index_is_small() -> None:
    assert INDEX.stat().st_size < 400 * 1024


def test_every_paper_has_keywords() -> None:
    assert build_index.keywords().keys() == catalogue().keys()


# The search


def test_vector_field_that_is_not_a_gradient() -> None:
    expected = {"qcsbm", "diffusion-gauge-freedom", "diffusion-wasserstein-flow"}
    assert set(_slugs("vector field that is not a gradient", limit=3)) == expected


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ("adahessian", "adahessian"),
        ("lion", "lion-k"),
        ("Muon", "muon-mla-moe"),
        ("I-BERT", "i-bert"),
        ("GELU", "gelu"),
    ],
)
def test_names_come_first(query: str, slug: str) -> None:
    assert _slugs(query)[0] == slug


@pytest.mark.parametrize(
    ("question", "slugs"),
    [
        ("why does GAN training oscillate", "single-call-extragradient two-timescale-extragradient-minimax"),
        ("test accuracy jumps long after training accuracy is perfect", "grokking-lazy-to-rich"),
        ("send fewer bits between workers", "econtrol ef21-weighted"),
        ("learn from few labels", "laplacian-transductive-fewshot"),
        ("loss spikes during training", "rnn-clipping-vanishing-regularizer"),
        ("differentiate through an iterative solver", "truncated-backprop-bilevel fast-matrix-sqrt"),
        ("does the optimizer change what is learned", "optimizer-inductive-bias"),
        ("train without backprop", "forward-gradient forward-forward"),
        ("my PINN does not converge", "causal-pinn pinn-operator-preconditioning"),
        ("less memory for activations during training", "few-bit-backward"),
        ("learning rate schedule for a fixed number of epochs", "uba-schedule"),
        ("speed up gradient descent when a few eigenvalues are huge", "symmetric-polynomial-preconditioning"),
    ],
)
def test_a_question_finds_what_answers_it_among_the_first_three(question: str, slugs: str) -> None:
    """The lists were made in knowledge of these: they guard, and measure nothing."""
    assert set(slugs.split()) & set(_slugs(question, limit=3))


def test_what_is_quantized_is_not_quantum() -> None:
    assert _slugs("quantum")[0] in ("hhl-quantum-linear-systems", "quantum-minimize-maximal-loss")
    assert not {"hhl-quantum-linear-systems", "quantum-minimize-maximal-loss"} & set(_slugs("quantization", limit=8))


def test_no_phrase_of_a_concept_is_a_single_word_by_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "concepts.txt"
    monkeypatch.setattr(_text, "CONCEPTS", path)
    path.write_text("samplers: one-step | time grid\n", encoding="utf-8")
    assert set(_text.phrases()) == {"onestep", "tim grid"}
    assert "#samplers" not in _text.terms("a small step", _text.phrases())
    assert "#samplers" in _text.terms("a one-step sampler", _text.phrases())
    path.write_text("rollout: autoregressive | many steps\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"concepts.txt:1: phrase 'many steps' is 'step' alone, .* say it otherwise"):
        _text.phrases()


@pytest.mark.parametrize("slug", ["adahessian", "fno", "trpo", "neural-tangent-kernel", "lazy-newton"])
def test_slugs_and_titles_come_first(slug: str) -> None:
    assert _slugs(slug)[0] == slug
    assert _slugs(find(slug).title)[0] == slug


def test_a_misspelled_word_still_finds() -> None:
    assert _slugs("adahesian")[0] == "adahessian"


@pytest.mark.parametrize(
    ("british", "american"),
    [("regularised behaviour", "regularized behavior"), ("modelling of centres", "modeling of centers")],
)
def test_spelling_does_not_matter(british: str, american: str) -> None:
    assert search(british) == search(american)


@pytest.mark.parametrize(("part", "least"), [("tuned", 0.85), ("held out", 0.80)])
def test_recall(part: str, least: float) -> None:
    ranks = [_rank(query, slug) for query, slug in _queries(part)]
    within_5 = mean(rank <= 5 for rank in ranks)
    first, reciprocal = mean(rank == 1 for rank in ranks), mean(1 / rank for rank in ranks)
    assert within_5 >= least, f"{part}: recall@1 {first:.3f}, recall@5 {within_5:.3f}, MRR {reciprocal:.3f}"


def test_recall_is_not_free() -> None:
    """The same measure on the wrong papers: the next query's."""
    queries = _queries("held out")
    wrong = [(query, slug) for (query, _), (_, slug) in zip(queries, queries[1:] + queries[:1], strict=True)]
    assert mean(_rank(query, slug) <= 5 for query, slug in wrong) < 0.1


def test_no_paper_has_two_queries() -> None:
    slugs = [slug for part in ("tuned", "held out") for _, slug in _queries(part)]
    assert len(slugs) == len(set(slugs)) == 405
    assert set(slugs) <= catalogue().keys()


def test_scores_fall_from_at_most_one() -> None:
    scores = [score for _, score in search("sharpness aware training", limit=1_000)]
    assert scores == sorted(scores, reverse=True)
    assert 0.0 < scores[-1] <= scores[0] <= 1.0


def test_limit() -> None:
    everything = search("gradient", limit=1_000)
    assert len(search("gradient")) == 20
    assert search("gradient", limit=3) == everything[:3]


def test_room() -> None:
    games = [hit for hit in search("gradient", limit=1_000) if hit[0].room == "games"]
    assert search("gradient", limit=1_000, room="games") == games


@pytest.mark.parametrize("query", ["qqqqqqqq", "of the", "?!", "数学"])
def test_words_that_mean_nothing_find_nothing(query: str) -> None:
    assert search(query) == []


@pytest.mark.parametrize("query", ["", " ", "\n\t"])
def test_blank_query(query: str) -> None:
    with pytest.raises(ValueError, match="query must not be empty"):
        search(query)


def test_bad_limit_and_room() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        search("gradient", limit=0)
    with pytest.raises(ValueError, match=r"room must be one of optim, .*, got 'kitchen'"):
        search("gradient", room="kitchen")


def test_search_is_quick() -> None:
    """The aim is 5 ms; the bound leaves room for a busy machine."""
    search("gradient")
    times = []
    for query, _ in _queries("held out")[:40]:
        start = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - start)
    assert median(times) < 0.05


def test_search_imports_nothing_heavy() -> None:
    code = (
        "import sys; from attractor.papers.search import search; search('gradient'); "
        "print(*sorted({'jax', 'scipy', 'sklearn', 'pandas', 'xarray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
