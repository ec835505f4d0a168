"""Libraries, a server of this machine, and what asks it."""

import pytest
from upstream import Clock, Upstream

from attractor.feed import Library
from attractor.feed.fetch import Fetcher
from attractor.feed.follows import entry_of
from attractor.papers.catalogue import catalogue


@pytest.fixture
def library(tmp_path):
    """An empty library."""
    with Library(tmp_path / "feed.sqlite") as library:
        yield library


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """The catalogue as papers that came in."""
    with Library(tmp_path_factory.mktemp("feed") / "feed.sqlite") as library:
        library.add(map(entry_of, catalogue().values()), "catalogue")
        yield library


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def local_fetcher(tmp_path):
    """Makes fetchers that may ask this machine; their clock goes on only where they wait."""
    clock = Clock()

    def make(hosts, home=tmp_path, **settings):
        return Fetcher(hosts, home, **{"allow_private": True, "sleep": clock.sleep, "clock": clock} | settings)

    make.clock = clock
    return make
