"""Carry signing requests from a node to the authority, and certificates back. No key travels."""

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
        found = self._execute_module(MODULE, {**arguments, "phase": "needs"}, task_vars=task_vars)
        if found.get("failed") or self._task.check_mode or not (found.get("told") or arguments.get("renew")):
            return found
        asked = self._execute_module(MODULE, {**arguments, "phase": "ask"}, task_vars=task_vars)
        if asked.get("failed") or not asked.get("told"):
            return asked
        hosts = {each["name"]: each["hosts"] for each in arguments["identities"]}
        requests = {name: {"request": text, "hosts": hosts[name]} for name, text in asked["told"].items()}
        control = Path(arguments["control"])
        try:
            certificates = enrolments.sign(control, arguments["marketplace"], requests)
            authority = (StateFolder(control).authority / "authority.pem").read_text(encoding="ascii")
        except DynamosError as error:
            return {"failed": True, "msg": f"the authority does not sign: {error}"}
        except OSError as error:
            return {"failed": True, "msg": f"the authority cannot be read: {error}"}
        placed = {**arguments, "phase": "place", "certificates": certificates, "authority": authority}
        return self._execute_module(MODULE, placed, task_vars=task_vars)
