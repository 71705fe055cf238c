"""Users and names of a node: files that it has of its own in place of the machine's.

Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import os

USER = "dynamos"
"""The user without privileges that units run as."""
_ID = 64700


def write(hostname: str) -> None:
    """Write who and what this node is: its name, its users without any password, and no names but its own."""
    users = _lines("/etc/passwd")
    groups = _lines("/etc/group")
    _put("/etc/passwd", [*users, f"{USER}:x:{_ID}:{_ID}:DYNAMOS:/home/{USER}:/bin/bash"])
    _put("/etc/group", [*groups, f"{USER}:x:{_ID}:"])
    names = [line.split(":")[0] for line in (*users, f"{USER}:")]
    _put("/etc/shadow", [f"{name}:*:20000:0:99999:7:::" for name in names], 0o600)
    _put("/etc/gshadow", [f"{line.split(':')[0]}:*::" for line in (*groups, f"{USER}:")], 0o600)
    _put("/etc/hostname", [hostname])
    _put("/etc/hosts", ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"127.0.1.1 {hostname}"])
    _put("/etc/resolv.conf", ["# Names are in /etc/hosts."])
    home = f"/home/{USER}"
    os.makedirs(home, 0o700, exist_ok=True)
    try:
        os.chown(home, _ID, _ID)
    except OSError:
        os.chmod(home, 0o755)  # one user only is mapped here


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return [line for line in file.read().splitlines() if line and not line.startswith(f"{USER}:")]


def _put(path: str, lines: list[str], mode: int = 0o644) -> None:
    """Replace a file, which may be a link to a place that is not there."""
    if os.path.lexists(path):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
    os.chmod(path, mode)
