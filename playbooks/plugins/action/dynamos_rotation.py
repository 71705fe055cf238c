"""What a rotation of keys does at the controller; nothing is done on a node.

`announce` makes a successor of the authority (where `authority` is asked for), `succeed` has it issue, and a new key
sign tokens (where `tokens` is), `settle` has nothing believed that is not used any more. Gives `trust`: whether the
nodes have to be told now which authorities to believe.
"""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.action import ActionBase

from dynamos.deploy import rotations
from dynamos.kit.errors import DynamosError


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset({"control", "marketplace", "phase", "authority", "tokens", "overlap"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        if self._task.check_mode:
            return {**result, "changed": True, "trust": False}
        try:
            return {**result, **self._done(arguments)}
        except (DynamosError, OSError) as error:
            return {**result, "failed": True, "msg": f"the keys are not rotated: {error}"}

    @staticmethod
    def _done(arguments):
        control, marketplace = Path(arguments["control"]), arguments["marketplace"]
        match arguments["phase"]:
            case "announce":
                return rotations.announce(control, marketplace, authority=arguments["authority"])
            case "succeed":
                return rotations.succeed(control, marketplace, tokens=arguments["tokens"])
            case _:
                return rotations.settle(control, marketplace, overlap=float(arguments["overlap"]))
