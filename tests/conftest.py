"""Fixtures that tests of several folders share. What they need is imported by who uses them: most tests do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine one example of a test may take seconds: how long it takes says nothing of what is tested.
settings.register_profile("dynamos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dynamos")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Kubernetes cluster of the session's own; see `support.clusters`. Skips, with the reason, where there can be
    none."""
    from support.clusters import session_cluster  # noqa: PLC0415

    with session_cluster(lambda: tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def namespace(cluster: Any) -> Iterator[str]:
    """A namespace of the test's own in the session's cluster."""
    from support.clusters import fresh_namespace  # noqa: PLC0415

    with fresh_namespace(cluster) as name:
        yield name
