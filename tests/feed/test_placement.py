"""What a paper that came in is near to."""

import subprocess
import sys

import pytest

from attractor.feed import Entry, placement
from attractor.feed.follows import entry_of
from attractor.papers import ROOMS, written
from attractor.papers.catalogue import catalogue, find


def test_a_paper_of_the_catalogue_stands_where_it_stands():
    placed = placement.place(entry_of(find("adahessian")))
    assert placed.room == "second_order"
    assert placed.papers[0] == ("adahessian", 1.0)
    assert placed.parts[0] == "second_order.adahessian"
    assert placed.novelty == 0
    assert placed.explained() == "in the catalogue: adahessian"


ADAPTIVE = Entry("Curvature by Hutchinson's estimator", "A diagonal Hessian preconditioner for adaptive optimizers.")
CLIENTS = Entry("Clients that drift", "Federated averaging with local steps and partial participation of clients.")
PLAYERS = Entry("Players that look ahead", "Extragradient for minimax problems and variational inequalities.")
SPACES = Entry("Equations in function space", "A Fourier neural operator that learns solution maps of parametric PDEs.")
CAUTION = Entry("Pessimism pays", "Offline reinforcement learning with conservative values from logged data.")


@pytest.mark.parametrize(
    ("entry", "room", "near"),
    [(ADAPTIVE, "second_order", "adahessian"), (CLIENTS, "distributed", "fedspeed"),
     (PLAYERS, "games", "single-call-extragradient"), (SPACES, "operators", "fno"), (CAUTION, "rl", "csve")],
)  # fmt: skip
def test_new_text_goes_into_its_room_beside_what_runs(entry, room, near):
    placed = placement.place(entry)
    assert placed.room == room
    assert near in dict(placed.papers)
    likenesses = [likeness for _, likeness in placed.papers]
    assert likenesses == sorted(likenesses, reverse=True)
    assert 0 <= placed.novelty <= 1
    assert placed.papers[0][0] in placed.explained()


def test_what_runs_is_named_and_exists():
    placed = placement.place(Entry("Hessian diagonal", "An adaptive optimizer with a Hutchinson diagonal Hessian."))
    assert "second_order.adahessian" in placed.parts
    slugs = [slug for slug, likeness in placed.papers if likeness >= placement.NEAR_RUNS and written(slug)]
    assert set(placed.parts) <= {part for slug in slugs for part in find(slug).parts}
    near = placement.place(Entry("Bilinear games", "min over x, max over y of x'y: gradient descent ascent spirals."))
    assert "bilinear-game" in near.problems


def test_what_is_like_nothing_here_has_no_room():
    placed = placement.place(Entry("Sourdough and rye", "Crumb, crust and hydration."))
    assert (placed.room, placed.papers, placed.parts, placed.problems) == (None, (), (), ())
    assert placed.novelty > 0.95
    assert "nothing" in placed.explained()
    assert placement.place(Entry("数学")).room is None


def test_rooms_of_the_catalogue_are_found_again():
    _, vectors, _ = placement._catalogue()
    found = placement.rooms(vectors)
    right = [room == paper.room for room, paper in zip(found, catalogue().values(), strict=True)]
    assert sum(right) / len(right) > 0.9  # these it was fitted to
    assert set(found) <= {*ROOMS}


def test_as_json_takes_it():
    row = placement.place(entry_of(find("adamp"))).asdict()
    assert row.keys() == {"room", "papers", "parts", "problems", "novelty", "explained"}
    assert row["papers"][0] == {"slug": "adamp", "likeness": 1.0}


def test_problems_are_those_that_are_registered():
    from attractor import registry

    assert set(placement._problems()[0]) == registry.problems().keys()


def test_placing_imports_nothing_heavy():
    code = (
        "import sys; from attractor.feed import Entry, follows, placement; placement.place(Entry('Sharp minima')); "
        "print(*sorted({'jax', 'scipy', 'sklearn', 'xarray', 'usearch', 'optax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
