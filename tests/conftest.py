"""Fixtures that tests of several folders share."""

from support.clusters import cluster, namespace

__all__ = ["cluster", "namespace"]
