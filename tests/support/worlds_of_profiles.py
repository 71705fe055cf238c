"""Profiles and wanted states for tests of testbeds, made in memory."""

from __future__ import annotations

from typing import Any

from dynamos.model.profiles import Profile
from dynamos.testbed.wanted import Wanted, wanted

TRIANGLE: dict[str, Any] = {
    "name": "triangle",
    "marketplace": "none",
    "driver": "namespaces",
    "sites": {"a": {"parties": ["ann", "abe"]}, "b": {"parties": ["bea"]}, "c": {"parties": ["cid"], "nodes": 2}},
    "links": [
        {"between": ["a", "b"], "delay": "10ms"},
        {"between": ["b", "c"], "delay": "20ms", "rate": "100mbit"},
        {"between": ["a", "c"], "delay": "50ms", "loss": "0.5%"},
    ],
    "overlay": {"driver": "wireguard"},
}


def profile_of(**changes: Any) -> Profile:
    """Give the triangle's profile with these members instead."""
    return Profile.model_validate({**TRIANGLE, **changes})


def wanted_of(**changes: Any) -> Wanted:
    """Give the wanted state of the triangle with these members instead."""
    return wanted(profile_of(**changes))
