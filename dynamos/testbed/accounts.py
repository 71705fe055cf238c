"""Users and names of a node: files that it has of its own in place of the machine's.

Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

from contextlib import suppress
from os import chown
from pathlib import Path

USER = "dynamos"
"""The user without privileges that units run as."""
_ID = 64700


def write(hostname: str) -> None:
    """Write who and what this node is: its name, its users, none of whom has a password, and no names but its own."""
    users, groups = _entries("passwd"), _entries("group")
    _put("passwd", [*users, f"{USER}:x:{_ID}:{_ID}:DYNAMOS:/home/{USER}:/bin/bash"])
    _put("group", [*groups, f"{USER}:x:{_ID}:"])
    _put("shadow", [f"{_name(line)}:*:20000:0:99999:7:::" for line in (*users, USER)], 0o600)
    _put("gshadow", [f"{_name(line)}:*::" for line in (*groups, USER)], 0o600)
    _put("hostname", [hostname])
    _put("hosts", hosts(hostname))
    _put("resolv.conf", ["# Names are in /etc/hosts."])
    home = Path("/home", USER)
    home.mkdir(0o755)
    with suppress(OSError):  # where one user only is mapped
        chown(home, _ID, _ID)
        home.chmod(0o700)


def hosts(hostname: str) -> list[str]:
    """Give the lines of /etc/hosts that every node and container has."""
    return ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", f"127.0.1.1 {hostname}"]


def _entries(name: str) -> list[str]:
    lines = Path("/etc", name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and _name(line) != USER]


def _name(line: str) -> str:
    return line.partition(":")[0]


def _put(name: str, lines: list[str], mode: int = 0o644) -> None:
    """Replace a file, which may be a link to a place that is not there."""
    path = Path("/etc", name)
    path.unlink(missing_ok=True)
    path.touch(mode)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
