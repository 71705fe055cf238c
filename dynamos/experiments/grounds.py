"""Grounds: the networks of a profile alone, made by a process of its own that is given a state folder and a profile."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dynamos.deploy import profiles
from dynamos.deploy.networks import World
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import DynamosError


def main() -> int:
    """Make them, and give 0; else print the error as JSON."""
    try:
        World(StateFolder(Path(sys.argv[1])), profiles.load(Path(sys.argv[2]))).bring_up()
    except DynamosError as error:
        print(json.dumps(error.as_dict()))  # noqa: T201  for whoever started us
        return error.exit
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
