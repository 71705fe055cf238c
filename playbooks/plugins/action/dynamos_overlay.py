"""Carry what is public of an overlay's members from node to node. No key travels."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

MODULE = "dynamos_overlay"
FOLDER = "overlays"


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("material") or not arguments.get("control"):
            raise AnsibleActionFail("control: give the controller's folder; what is public comes from there")
        kept = Path(arguments["control"]) / FOLDER
        arguments["material"] = {each["name"]: _known(kept, each) for each in arguments["overlays"]}
        found = self._execute_module(MODULE, arguments, task_vars=task_vars)
        if arguments["phase"] == "prepare" and not found.get("failed") and not self._task.check_mode:
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            for overlay, members in found["told"].get("material", {}).items():
                for member, words in members.items():
                    _path(kept, overlay, member).write_text(json.dumps(words), encoding="utf-8")
        return found


def _known(kept, overlay):
    paths = {seat["container"]: _path(kept, overlay["name"], seat["container"]) for seat in overlay["seats"]}
    return {name: json.loads(path.read_bytes()) for name, path in paths.items() if path.exists()}


def _path(kept, overlay, member):
    return kept / f"{overlay}.{member}.json"
