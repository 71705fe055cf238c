"""Whom the users of a world are outside of it: the maps of its user namespace, and what each kind of map cannot do.

Only the standard library: a world's process imports this before it is one.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from dynamos.jobs import linux
from dynamos.testbed import namespaces

SHIFTED = "shifted"
"""Every user of the world is nobody on the machine; files of the machine are shown as their owners' inside."""
SAME = "same"
"""Users are whom they are outside, where the kernel cannot show the machine's files to others."""
ROOTLESS = "rootless"
"""Made by a person without privileges, with users of that person's range in /etc/subuid."""
SINGLE = "single"
"""Made by a person without privileges, who is the only user of the world."""

LACKS = {
    SHIFTED: (),
    SAME: (
        "root of a node is root of this machine, who is kept from it by its namespaces only",
        "services cannot be isolated further where users without privileges run them in a container",
    ),
    ROOTLESS: (
        "files of this machine belong to nobody inside: programs that insist on root's ownership of them refuse",
        "system folders with other mounts below are read-only",
    ),
    SINGLE: (
        "the user dynamos cannot be used: there is no second user",
        "files of this machine belong to nobody inside: programs that insist on root's ownership of them refuse",
        "system folders with other mounts below are read-only",
        "sshd and other programs that change their user do not work",
    ),
}
"""What does not work, by kind."""

_COUNT = 65536
_SHIFT = f"0 {0x5D000000} {_COUNT}\n{0x70000000} {0x5E000000} {1 << 24}\n"
"""Users of the world as users that no distribution hands out; the second row are those that services run as."""


def is_machine_root() -> bool:
    """Tell whether root here is root of the machine, as far as can be seen from here."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text(encoding="ascii").split()[:2] == ["0", "0"]


def user_namespace(*, privileged: bool, shifted: bool) -> tuple[int, str]:
    """Make the world's user namespace, and tell its kind. Root has a mount namespace of its own already."""
    if not privileged:
        return _unprivileged()
    if shifted and (user := _shifted()) is not None:
        return user, SHIFTED
    uids, gids = (_same(Path(f"/proc/self/{kind}").read_text(encoding="ascii")) for kind in ("uid_map", "gid_map"))
    return namespaces.user_namespace(lambda pid: _write(pid, uids, gids)), SAME


def _shifted() -> int | None:
    """Make a user namespace whose users are nobody here, if the machine's files can be shown to them as their own."""
    with suppress(OSError):
        user = namespaces.user_namespace(lambda pid: _write(pid, _SHIFT, _SHIFT))
        if _can_show_others_files(user):
            return user
        os.close(user)
    return None


def _unprivileged() -> tuple[int, str]:
    uid, gid = os.getuid(), os.getgid()
    ranges = [_range(Path(f"/etc/{name}"), uid) for name in ("subuid", "subgid")]
    if all(ranges):
        with suppress(OSError, subprocess.CalledProcessError):
            return namespaces.user_namespace(lambda pid: _ask_for(pid, (uid, gid), ranges)), ROOTLESS
    return namespaces.user_namespace(lambda pid: _write(pid, f"0 {uid} 1\n", f"0 {gid} 1\n", groups=False)), SINGLE


def _write(pid: int, uids: str, gids: str, *, groups: bool = True) -> None:
    if not groups:
        Path(f"/proc/{pid}/setgroups").write_text("deny", encoding="ascii")
    Path(f"/proc/{pid}/uid_map").write_text(uids, encoding="ascii")
    Path(f"/proc/{pid}/gid_map").write_text(gids, encoding="ascii")


def _ask_for(pid: int, own: tuple[int, int], ranges: list[tuple[int, int]]) -> None:
    """Have the machine's own programs map a person's range."""
    for program, mine, (first, count) in zip(("newuidmap", "newgidmap"), own, ranges, strict=True):
        words = (program, pid, 0, mine, 1, 1, first, min(count, _COUNT - 1))
        subprocess.run([str(word) for word in words], check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def _range(path: Path, uid: int) -> tuple[int, int]:
    """Give the first and the number of ids that a person has there, nothing where there are none."""
    with suppress(OSError, ValueError):
        names = {str(uid)} | {
            fields[0]
            for line in Path("/etc/passwd").read_text(encoding="utf-8").splitlines()
            if len(fields := line.split(":")) > 2 and fields[2] == str(uid)  # noqa: PLR2004  name, password, uid
        }
        for line in path.read_text(encoding="utf-8").splitlines():
            name, first, count = line.split(":")
            if name in names:
                return int(first), int(count)
    return ()  # type: ignore[return-value]


def _same(text: str) -> str:
    """Give a map that leaves every id that there is here as it is."""
    rows = (line.split() for line in text.splitlines())
    return "".join(f"{first} {first} {count}\n" for first, _, count in rows)


def _can_show_others_files(user: int) -> bool:
    """Try whether the machine's file system can be shown with other owners."""
    try:
        linux.bind("/usr", "/usr", linux.ATTR_RDONLY, user_namespace=user, recursive=False)
    except OSError:
        return False
    linux.unmount("/usr")
    return True
