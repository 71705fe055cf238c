"""The program: from the profile that a stack is configured with to the testbed that it describes."""

from __future__ import annotations

import os
from pathlib import Path

import pulumi

from dynamos.deploy import profiles
from dynamos.deploy.pulumi.components import Testbed, TestbedArgs
from dynamos.deploy.pulumi.engines import checkout
from dynamos.kit.errors import DynamosError, Mistakes
from dynamos.model.profiles import Profile

STATE = "DYNAMOS_STATE"
"""The variable that names the folder of all testbeds' state; by default `.dynamos` beside `infra/`."""


def run() -> Testbed:
    """Provision the testbed that `pulumi config set profile` names, and export what others use of it."""
    profile = configured()
    testbed = Testbed(profile.name, TestbedArgs(profile, state_folder() / profile.name))
    for name, value in testbed.outputs().items():
        pulumi.export(name, value)
    return testbed


def configured() -> Profile:
    """Give the profile that the stack is configured with.

    Raises RunError, after every mistake was logged with its line and its hint: nothing is made then.
    """
    name = pulumi.Config().require("profile")
    try:
        checked = profiles.validate(name)
    except Mistakes as wrong:
        for mistake in wrong.mistakes:
            pulumi.log.error(str(mistake))
        raise pulumi.RunError(wrong.message) from None
    except DynamosError as error:
        raise pulumi.RunError(str(error)) from None
    for warning in checked.warnings:
        pulumi.log.warn(str(warning))
    if checked.profile.driver == "processes":
        raise pulumi.RunError(
            f"the profile {checked.profile.name!r} has the driver 'processes', which has nothing to provision"
            f" (run `dynamos up {name}`, or choose the driver `namespaces` or `ssh`)"
        )
    return checked.profile


def state_folder() -> Path:
    """Give the folder that holds the state of all testbeds of this checkout."""
    return (checkout() / os.environ.get(STATE, ".dynamos")).resolve()
