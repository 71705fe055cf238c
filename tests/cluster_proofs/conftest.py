"""A cluster of two sites, with a link between them, for proofs about its networks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.clusters import Cluster
from cluster.specs import profile_of

from dynamos.kit.errors import Unavailable

SITES = ("north", "south")


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster with a node at each of two sites: the one in the folder that DYNAMOS_TEST_SITES names, which
    stays, or one for this session."""
    if (named := os.environ.get("DYNAMOS_TEST_SITES")) and (found := Cluster.find(Path(named))):
        yield found
        return
    profile = profile_of(SITES, 1, [(*SITES, "5ms")], "sites")
    try:
        made = Cluster.up(tmp_path_factory.mktemp("sites"), profile, owner=os.getpid())
    except Unavailable as error:
        pytest.skip(f"no cluster here: {error}")
    try:
        yield made
    finally:
        made.down()
