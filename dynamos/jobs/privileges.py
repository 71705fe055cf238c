"""Giving up what a process may do. Every step here is for good."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path

from dynamos.jobs import linux

INNER_ID = 1000
"""The user and group that a service sees itself as."""

_FIRST_ID = 0x70000000  # above what distributions, subordinate ids and container managers hand out
_LOCKED_SECUREBITS = 0b11101111  # noroot, no-setuid-fixup, keep-caps off, no-cap-ambient-raise: all locked


def outer_id(party: str) -> int:
    """Give the user id that services of `party` have outside: its own where we are root, else ours."""
    return _FIRST_ID + (zlib.crc32(party.encode()) & 0xFFFFFF) if os.geteuid() == 0 else os.geteuid()


def become(user: int) -> None:
    """Be `user`, in a group of the same number and in no other. Nothing changes for who is `user` already."""
    if os.geteuid() == user:
        return
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def enter_user_namespace(*, inner: int) -> None:
    """Enter a fresh user namespace that knows only this user, as `inner`. Raises OSError where that is forbidden."""
    user, group = os.geteuid(), os.getegid()
    linux.prctl(linux.PR_SET_DUMPABLE, 1)  # the files below belong to root otherwise
    linux.unshare(linux.NEW_USER)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{inner} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{inner} {group} 1", encoding="ascii")


def drop_capabilities() -> None:
    """Have no capability, now or after any exec."""
    linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_CLEAR_ALL)
    with suppress(OSError):  # the first number that the kernel does not know ends it
        for number in range(64):
            linux.prctl(linux.PR_CAPBSET_DROP, number)
    linux.prctl(linux.PR_SET_SECUREBITS, _LOCKED_SECUREBITS)
    linux.set_no_capabilities()


def forbid_new() -> None:
    """Take no privilege from any program, and let nobody look into this process."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
