"""What the controller has to have before nodes are set up: an authority, an issuer of tokens, a bundle, data.

Nothing is done on a node. Gives `bundle` (the manifest of the wheels); asked for `data`, the folder of each
party's data instead.
"""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.action import ActionBase

from dynamos.deploy import bundles, enrolments, profiles
from dynamos.kit.errors import DynamosError

BUNDLES = "bundles"


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset({"control", "marketplace", "profile", "bundle", "data", "python", "machine"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        try:
            result.update(self._have(arguments))
        except (DynamosError, OSError) as error:
            result.update(failed=True, msg=f"the controller is not ready: {error}")
        return result

    def _have(self, arguments):
        control = Path(arguments["control"])
        if arguments.get("data"):
            profile = profiles.load(arguments["profile"])
            folders = profiles.prepare(profile, control / "data" / arguments["marketplace"])
            # Data that are missing were refused: a party without a folder has none.
            there = {party: str(folder) for party, folder in folders.items() if folder.is_dir()}
            return {"changed": False, "data": there}
        made = False if self._task.check_mode else enrolments.found(control, arguments["marketplace"])
        if arguments.get("bundle"):
            bundle = bundles.read(Path(arguments["bundle"]))
        else:
            python, machine = arguments.get("python", "3.11"), arguments.get("machine", "x86_64")
            bundle = bundles.make(control / BUNDLES, python=python, machine=machine)
        return {"changed": made, "bundle": bundle.as_json()}
