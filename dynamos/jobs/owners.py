"""Namespaces that show a data folder's owner as the user that services run as, so that private files can be read."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from dynamos.jobs import linux
from dynamos.jobs.roots import HOST


class Owners:
    """One user namespace for each owner of data folders, kept for the life of the zygote."""

    def __init__(self, user: int) -> None:
        self._user = user
        self._made: dict[tuple[int, int], int] = {}

    def of(self, folder: str) -> list[int]:
        """Give the descriptor of the namespace for `folder`; none where we may not make it or need it."""
        if os.geteuid() == self._user:
            return []
        try:
            facts = Path(HOST + folder).stat()
            key = (facts.st_uid, facts.st_gid)
            if key not in self._made:
                self._made[key] = _namespace(*key, shown_as=self._user)
        except OSError:
            return []
        return [self._made[key]]


def _namespace(user: int, group: int, *, shown_as: int) -> int:
    """Make a user namespace that maps `user` and `group`, held by nobody but the descriptor."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            linux.unshare(linux.NEW_USER)
            os.write(writing, b"1")
            signal.pause()
        os._exit(1)
    os.close(writing)
    try:
        if not os.read(reading, 1):
            raise PermissionError("no user namespace")
        Path(f"/proc/{pid}/uid_map").write_text(f"{user} {shown_as} 1", encoding="ascii")
        Path(f"/proc/{pid}/gid_map").write_text(f"{group} {shown_as} 1", encoding="ascii")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
