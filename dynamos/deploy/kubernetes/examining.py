"""From a profile to a plan that its cluster will take: what is in the way is told before anything is made."""

from __future__ import annotations

import os
from pathlib import Path

from dynamos.deploy import profiles
from dynamos.deploy.images.references import Images
from dynamos.deploy.images.references import images as built
from dynamos.deploy.kubernetes import checks
from dynamos.deploy.kubernetes.clusters import Lightkube
from dynamos.deploy.kubernetes.facts import Cluster
from dynamos.deploy.kubernetes.plans import Plan
from dynamos.deploy.kubernetes.preparing import prepare
from dynamos.deploy.kubernetes.reaching import Reach
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import DynamosError, Mistakes
from dynamos.model.clusters import endpoint
from dynamos.model.profiles import Profile

SHARED_DATA, IMAGES = "data", "images"


def examined(profile: Profile, state: Path, *, cluster: Cluster | None = None, images: Images | None = None) -> Plan:
    """Give the plan of a profile for its cluster. `state` is the folder of all testbeds' state.

    Raises Mistakes with everything that is in the way, and what kept us from asking the cluster.
    """
    asked = cluster or Lightkube(profile.cluster)
    marketplace = profiles.resolve(profile)
    found = images or built(images_folder(state), profile.cluster.registry)
    facts = asked.look(checks.questions(profile, marketplace))
    if mistakes := checks.check(profile, marketplace, found, facts):
        raise Mistakes(mistakes, subject=f"the cluster for {profile.name}")
    plan = _plan(profile, state, found, facts.api_servers)
    Reach.of(profile).note(StateFolder(state / profile.name))
    return plan


def drafted(profile: Profile, state: Path, *, cluster: Cluster | None = None, images: Images | None = None) -> Plan:
    """Give the plan of a profile without a look at what is in the way. Only where the profile does not say where the
    cluster's API server is, the cluster is asked.

    Raises what kept us from asking it, with a hint to say it.
    """
    found = images or built(images_folder(state), profile.cluster.registry)
    try:
        servers = () if profile.cluster.api_servers else (cluster or Lightkube(profile.cluster)).api_servers()
    except DynamosError as error:
        error.hint = "say cluster.apiServers in the profile to write manifests without a cluster"
        raise
    return _plan(profile, state, found, servers)


def images_folder(state: Path) -> Path:
    """Give the folder of the images that were built: beside the testbeds, unless DYNAMOS_IMAGES names another."""
    return Path(os.environ.get("DYNAMOS_IMAGES") or state / IMAGES)


def _plan(profile: Profile, state: Path, images: Images, asked: tuple[tuple[str, int], ...]) -> Plan:
    servers = tuple(map(endpoint, profile.cluster.api_servers)) or asked
    market = Path(profile.marketplace).name
    return prepare(profile, StateFolder(state / profile.name), images, servers, data=state / SHARED_DATA / market)
