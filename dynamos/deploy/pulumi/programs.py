"""The program: from the profile that a stack is configured with to the testbed that it describes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pulumi

from dynamos.deploy import profiles
from dynamos.deploy.pulumi.components import Testbed, TestbedArgs
from dynamos.deploy.pulumi.engines import checkout
from dynamos.kit.errors import DynamosError, Mistakes
from dynamos.model.profiles import Profile

if TYPE_CHECKING:
    from dynamos.deploy.pulumi.clusters import Marketplace

STATE = "DYNAMOS_STATE"
"""The variable that names the folder of all testbeds' state; by default `.dynamos` beside `infra/`."""


def run() -> Testbed | Marketplace:
    """Provision the testbed that `pulumi config set profile` names, and export what others use of it."""
    profile = configured()
    made = _on_cluster(profile) if profile.driver == "kubernetes" else _testbed(profile)
    for name, value in made.outputs().items():
        pulumi.export(name, value)
    return made


def _testbed(profile: Profile) -> Testbed:
    return Testbed(profile.name, TestbedArgs(profile, state_folder() / profile.name))


def _on_cluster(profile: Profile) -> Marketplace:
    """Put the profile on its cluster, once everything that is in the way of that has been told."""
    from dynamos.deploy.kubernetes.examining import examined  # noqa: PLC0415  clients of clusters are an extra
    from dynamos.deploy.pulumi.clusters import Cluster, ClusterArgs, Marketplace, MarketplaceArgs  # noqa: PLC0415

    with told():
        plan = examined(profile, state_folder())
        cluster = Cluster(profile.name, ClusterArgs(profile.cluster))
    return Marketplace(profile.name, MarketplaceArgs(plan, cluster))


def configured() -> Profile:
    """Give the profile that the stack is configured with.

    Raises RunError, after every mistake was logged with its line and its hint: nothing is made then.
    """
    name = pulumi.Config().require("profile")
    with told():
        checked = profiles.validate(name)
    for warning in checked.warnings:
        pulumi.log.warn(str(warning))
    if checked.profile.driver == "processes":
        raise pulumi.RunError(
            f"the profile {checked.profile.name!r} has the driver 'processes', which has nothing to provision"
            f" (run `dynamos up {name}`, or choose the driver `namespaces` or `ssh`)"
        )
    return checked.profile


@contextmanager
def told() -> Iterator[None]:
    """Log every mistake with its place and its hint, and end the program: nothing is made then."""
    try:
        yield
    except Mistakes as wrong:
        for mistake in wrong.mistakes:
            pulumi.log.error(str(mistake))
        raise pulumi.RunError(wrong.message) from None
    except DynamosError as error:
        raise pulumi.RunError(str(error)) from None


def state_folder() -> Path:
    """Give the folder that holds the state of all testbeds of this checkout."""
    return (checkout() / os.environ.get(STATE, ".dynamos")).resolve()
