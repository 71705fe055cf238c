"""Bring the bundle to nodes that lack the release, and to no others."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

MODULE = "dynamos_release"


class ActionModule(ActionBase):
    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        bundle = arguments.get("bundle") or {}
        archive = bundle.get("archive", "")
        arguments["bundle"] = {name: value for name, value in bundle.items() if name != "archive"}
        if not archive or arguments.get("archive"):
            raise AnsibleActionFail("bundle: give the manifest that `python -m dynamos.deploy.bundles` prints")
        if self._task.check_mode:
            return self._execute_module(MODULE, arguments, task_vars=task_vars)
        looked = self._execute_module(MODULE, arguments, task_vars=task_vars)
        if looked.get("failed") or looked.get("installed"):
            return looked
        there = self._connection._shell.join_path(looked["incoming"], "bundle.tar")
        try:
            self._transfer_file(archive, there)
        except AnsibleError as error:
            msg = (
                f"the bundle did not get to {there}: {error}. See to it that there is room, then run the playbook again"
            )
            raise AnsibleActionFail(msg) from error
        return self._execute_module(MODULE, {**arguments, "archive": there}, task_vars=task_vars)
