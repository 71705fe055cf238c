"""System calls that Python has no word for. Every function raises OSError that names the call; Linux only."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

NEW_TIME = 0x80
NEW_MOUNT = 0x00020000
NEW_CGROUP = 0x02000000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_USER = 0x10000000
NEW_PID = 0x20000000
NEW_NET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC, ATTR_IDMAP = 1, 2, 4, 8, 0x00100000
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 24, 28, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Tell whether this is a Linux whose system calls are known here."""
    return sys.platform == "linux" and platform.machine() in _PIVOT_ROOT


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags` for fresh ones; for pid it is the next child that is in it."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` refers to."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def prctl(option: int, *arguments: int) -> None:
    """Set an attribute of this process."""
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(ctypes.c_int(option), *padded), f"prctl {option}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount `source` at `target`."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {target}")


def unmount(target: str) -> None:
    """Take a mount, and all below it, out of this mount namespace at once."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace, with the present root at `old`."""
    _syscall("pivot_root", _PIVOT_ROOT[platform.machine()], new.encode(), old.encode())


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def bind(source: str, target: str, attributes: int, *, user_namespace: int = -1, recursive: bool = True) -> None:
    """Show `source` at `target` with `attributes` on every mount of it.

    With the file descriptor of a user namespace, owners of files are shown as that namespace maps them.
    """
    tree = detached(source, attributes, user_namespace=user_namespace, recursive=recursive)
    try:
        attach(tree, target)
    finally:
        os.close(tree)


def detached(source: str, attributes: int, *, user_namespace: int = -1, recursive: bool = True) -> int:
    """Give the descriptor of what `bind` shows, to `attach` it where nobody could take `source` from."""
    deep = _AT_RECURSIVE if recursive else 0
    tree = _syscall("open_tree", _OPEN_TREE, _AT_FDCWD, source.encode(), _OPEN_TREE_CLONE | os.O_CLOEXEC | deep)
    try:
        values = _MountAttributes(set=attributes)
        if user_namespace >= 0:
            values.set |= ATTR_IDMAP
            values.userns_fd = user_namespace
        size = ctypes.sizeof(values)
        _syscall("mount_setattr", _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | deep, ctypes.byref(values), size)
    except OSError:
        os.close(tree)
        raise
    return tree


def attach(tree: int, target: str) -> None:
    """Show what `detached` gave at `target`."""
    _syscall("move_mount", _MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)


def restrict(target: str, attributes: int) -> None:
    """Add `attributes` to the mount at `target`, and to no other."""
    values = _MountAttributes(set=attributes)
    size = ctypes.sizeof(values)
    _syscall("mount_setattr", _MOUNT_SETATTR, _AT_FDCWD, target.encode(), 0, ctypes.byref(values), size)


def set_no_capabilities() -> None:
    """Give up every capability of this process, for good where its bounding set is empty too."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def wipe_environment() -> None:
    """Overwrite the environment that this process was started with, which a child could still read in its memory."""
    os.environ.clear()
    fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    start, end = int(fields[47]), int(fields[48])
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def _syscall(name: str, number: int, *arguments: object) -> int:
    passed = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *passed)
    return _check(result, name)


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result
