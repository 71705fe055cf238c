"""Bring the files of a folder that differ on the node, in one archive."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

MODULE = "dynamos_tree"


class ActionModule(ActionBase):
    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        source = Path(self._task.args.get("source", ""))
        if not source.is_dir():
            raise AnsibleActionFail(f"source: there is no folder {source}")
        arguments = {**self._task.args, "manifest": _manifest(source)}
        looked = self._execute_module(MODULE, arguments, task_vars=task_vars)
        if looked.get("failed") or self._task.check_mode or not looked.get("differ"):
            return looked
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            with tarfile.open(archive.name, "w") as tar:
                for name in looked["differ"]:
                    tar.add(source / name, name)
            try:
                self._transfer_file(archive.name, looked["incoming"])
            except AnsibleError as error:
                msg = f"the data did not get there: {error}. See to it that there is room, then run the playbook again"
                raise AnsibleActionFail(msg) from error
        placed = {**arguments, "archive": looked["incoming"]}
        return self._execute_module(MODULE, placed, task_vars=task_vars)


def _manifest(source):
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return {str(path.relative_to(source)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
