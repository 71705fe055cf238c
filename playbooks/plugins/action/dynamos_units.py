"""Configurations of units, and the public keys that they check others with.

Gives `services`, for `dynamos_services`: what each unit is started with depends on all of these files.
"""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.action import ActionBase

from dynamos.deploy import rotations
from dynamos.deploy.units import AUTHORITY, CERTIFICATE, EDGE, JWKS, KEY, SIGNER
from dynamos.kit.errors import DynamosError

CONFIG = "config.json"


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset({"units", "identities", "control"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        units, identities = self._task.args["units"], self._task.args.get("identities", [])
        try:
            public = rotations.public(Path(self._task.args["control"]), task_vars["dynamos_marketplace"])
        except DynamosError as error:
            if not self._task.check_mode:
                msg = f"{error}: the control site has to be set up first, without --limit"
                return {**result, "failed": True, "msg": msg}
            public = dict.fromkeys((AUTHORITY, EDGE, SIGNER, JWKS), "")
        files = [each for unit in units for each in _files(unit, public)]
        users = {unit["user"] for unit in units}
        files += [_believed(each, public) for each in identities if each["user"] in users]
        result.update(self._execute_module("dynamos_files", {"files": files}, task_vars=task_vars))
        result["services"] = [_service(unit, identities) for unit in units]
        return result


def _files(unit, public):
    owned = {"owner": unit["user"], "mode": "0600"}
    yield {"path": f"{unit['folder']}/{CONFIG}", "content": unit["config"], **owned}
    for name in unit["files"]:
        yield {"path": f"{unit['folder']}/{name}", "content": public[name], **owned}


def _believed(identity, public):
    path = f"{identity['folder']}/{AUTHORITY}"
    return {"path": path, "content": public[AUTHORITY], "owner": identity["user"], "mode": "0600"}


def _service(unit, identities):
    folders = [each["folder"] for each in identities if f"{each['folder']}/".startswith(f"{unit['folder']}/")]
    # Public keys that units check others with are looked at again whenever they are needed.
    depends = [f"{unit['folder']}/{CONFIG}"]
    depends += [f"{folder}/{name}" for folder in folders for name in (CERTIFICATE, KEY, AUTHORITY)]
    return {
        **{name: unit[name] for name in ("name", "user", "command", "ready", "environment", "jobs", "rights")},
        "pinned": unit.get("pinned", False),
        "depends": depends,
    }
