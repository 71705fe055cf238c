"""Carry signing requests from a node to the authority, and certificates back. No key travels.

With `stage: sign` certificates are signed and stay at the controller, so that others can believe them before they are
used; `stage: place` brings them.
"""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.action import ActionBase

from dynamos.deploy import enrolments
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import DynamosError

MODULE = "dynamos_identities"


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        stage = arguments.pop("stage", "all")
        if stage == "place":
            return self._place(arguments, task_vars)
        if self._task.check_mode or not arguments.get("renew"):
            found = self._execute_module(MODULE, {**arguments, "phase": "needs"}, task_vars=task_vars)
            if found.get("failed") or self._task.check_mode or not found.get("told"):
                return found
        asked = self._execute_module(MODULE, {**arguments, "phase": "ask"}, task_vars=task_vars)
        if asked.get("failed") or not asked.get("told"):
            return asked
        hosts = {each["name"]: each["hosts"] for each in arguments["identities"]}
        requests = {name: {"request": text, "hosts": hosts[name]} for name, text in asked["told"].items()}
        control = Path(arguments["control"])
        try:
            overlap = stage == "sign"
            certificates = enrolments.sign(control, arguments["marketplace"], requests, overlap=overlap)
        except DynamosError as error:
            return {"failed": True, "msg": f"the authority does not sign: {error}"}
        except OSError as error:
            return {"failed": True, "msg": f"the authority cannot be read: {error}"}
        return asked if stage == "sign" else self._place(arguments, task_vars, certificates)

    def _place(self, arguments, task_vars, certificates=None):
        control = Path(arguments["control"])
        try:
            known = certificates or enrolments.signed(control, [each["name"] for each in arguments["identities"]])
            authority = (StateFolder(control).authority / "authority.pem").read_text(encoding="ascii")
        except OSError as error:
            return {"failed": True, "msg": f"the authority cannot be read: {error}"}
        placed = {**arguments, "phase": "place", "certificates": known, "authority": authority}
        return self._execute_module(MODULE, placed, task_vars=task_vars)
