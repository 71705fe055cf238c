"""Checks of what a profile says of a cluster, without asking the cluster."""

from __future__ import annotations

from collections.abc import Collection

from dynamos.deploy.notes import Notes
from dynamos.model.clusters import Cluster, control_namespace, party_namespace
from dynamos.model.profiles import Profile

LONGEST_NAMESPACE = 63
OVERLAYS = ("none", "wireguard")
"""What drivers of overlays there are on a cluster: its own network is what it is, and may encrypt."""


def check_cluster(profile: Profile, notes: Notes, parties: Collection[str] | None, lost: Collection[str]) -> None:
    """Note what is wrong with the cluster. See `site_checks.check_sites`."""
    if profile.driver != "kubernetes":
        if profile.cluster != Cluster():
            message = f"the driver {profile.driver!r} has no cluster: this has no effect"
            notes.odd(("cluster",), message, "write driver: kubernetes")
        return
    for party in profile.cluster.claims if "cluster" not in lost and parties is not None else ():
        notes.known(("cluster", "claims", party), "party", party, parties or ())
    if "overlay" not in lost:
        _overlay(profile, notes)
    _namespaces(profile, notes, parties or ())


def _overlay(profile: Profile, notes: Notes) -> None:
    """Note what a cluster's network cannot be, so that nobody takes for protected what is not."""
    driver, scope = profile.overlay.driver, profile.overlay.scope
    if driver == "mtls":
        message = "there is no overlay 'mtls' on a cluster"
        notes.wrong(("overlay", "driver"), message, "write none: agents use mutual TLS, whatever carries it")
    elif driver not in OVERLAYS:
        message = f"there is no overlay {driver!r} on a cluster"
        notes.wrong(("overlay", "driver"), message, f"known: {', '.join(OVERLAYS)}")
    elif driver == "wireguard" and profile.cluster.policies == "kubernetes":
        message = "nothing tells whether this cluster's nodes encrypt"
        notes.wrong(("overlay", "driver"), message, "write cluster: {policies: cilium}, or calico, if it has one")
    if scope != "marketplace":
        message = f"a cluster has one network, and not one for each {scope}"
        notes.wrong(("overlay", "scope"), message, "leave it out: each job opens the ways that it needs, and no others")


def _namespaces(profile: Profile, notes: Notes, parties: Collection[str]) -> None:
    """Note names that make no namespace. That parties differ in them is checked with those of hosts."""
    control = control_namespace(profile.name)
    if "-" in (control[0], control[-1]):
        notes.wrong(("name",), f"the namespace would be called {control!r}", "begin and end with a letter or a digit")
    for party in parties:
        name = party_namespace(profile.name, party)
        if len(name) > LONGEST_NAMESPACE:
            message = f"the namespace of party {party!r} would be called {name!r}, which is too long"
            notes.wrong(("name",), message, f"names have at most {LONGEST_NAMESPACE} letters: take a shorter one")
