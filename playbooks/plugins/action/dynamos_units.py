"""Configurations of units, and the public keys that they check others with.

Gives `services`, for `dynamos_services`: what each unit is started with depends on all of these files.
"""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.action import ActionBase

from dynamos.deploy.states import StateFolder
from dynamos.deploy.units import AUTHORITY, CERTIFICATE, EDGE, JWKS, KEY, SIGNER

CONFIG = "config.json"


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset({"units", "identities", "control"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        units, control = self._task.args["units"], StateFolder(Path(self._task.args["control"]))
        try:
            public = {
                EDGE: (control.authority / "issued" / "api.pem").read_text(encoding="ascii"),
                SIGNER: (control.authority / "issued" / "orchestrator.pem").read_text(encoding="ascii"),
                JWKS: (control.issuer / "jwks.json").read_text(encoding="ascii"),
            }
        except FileNotFoundError as error:
            if not self._task.check_mode:
                msg = f"{error.filename} is missing: the control site has to be set up first, without --limit"
                return {**result, "failed": True, "msg": msg}
            public = dict.fromkeys((EDGE, SIGNER, JWKS), "")
        files = [each for unit in units for each in _files(unit, public)]
        result.update(self._execute_module("dynamos_files", {"files": files}, task_vars=task_vars))
        result["services"] = [_service(unit, self._task.args.get("identities", [])) for unit in units]
        return result


def _files(unit, public):
    owned = {"owner": unit["user"], "mode": "0600"}
    yield {"path": f"{unit['folder']}/{CONFIG}", "content": unit["config"], **owned}
    for name in unit["files"]:
        yield {"path": f"{unit['folder']}/{name}", "content": public[name], **owned}


def _service(unit, identities):
    folders = [each["folder"] for each in identities if f"{each['folder']}/".startswith(f"{unit['folder']}/")]
    depends = [f"{unit['folder']}/{name}" for name in (CONFIG, *unit["files"])]
    depends += [f"{folder}/{name}" for folder in folders for name in (CERTIFICATE, KEY, AUTHORITY)]
    return {
        **{name: unit[name] for name in ("name", "user", "command", "ready", "environment", "jobs", "rights")},
        "depends": depends,
    }
