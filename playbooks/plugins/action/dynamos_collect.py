"""Bring packed folders from a node to the controller, and leave nothing of it on the node."""

from __future__ import annotations

import os
import shlex
import shutil
import tarfile
import tempfile
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

MODULE = "dynamos_collect"


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        packed = self._execute_module(MODULE, dict(self._task.args), task_vars=task_vars)
        archive = packed.pop("archive", "")
        if packed.get("failed") or not archive:
            return packed
        os.umask(0o077)
        with tempfile.TemporaryDirectory() as room:
            here = Path(room) / "pack.tar.gz"
            try:
                self._connection.fetch_file(archive, str(here))
                _unpack(here, Path(self._task.args["dest"]))
            except (AnsibleError, OSError, tarfile.TarError) as error:
                return {"failed": True, "msg": f"the logs did not get here: {error}. Run the playbook again"}
            finally:
                self._low_level_execute_command(f"rm -f {shlex.quote(archive)}")
        return packed


def _unpack(archive, folder):
    """Have in `folder` just what is in the archive; links and paths that lead out of it are refused."""
    near = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(near, ignore_errors=True)
    near.mkdir(parents=True, mode=0o700)
    with tarfile.open(archive) as tar:
        tar.extractall(near, filter="data")
    shutil.rmtree(folder, ignore_errors=True)
    near.replace(folder)
