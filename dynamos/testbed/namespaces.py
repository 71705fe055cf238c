"""Fresh namespaces: what a process gives itself before it is the first of a world, a node or a container.

Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from dynamos.jobs import linux

OWN = linux.NEW_MOUNT | linux.NEW_NET | linux.NEW_UTS | linux.NEW_IPC | linux.NEW_CGROUP
"""Every kind but pid, which begins with a child, and user, which a world has one of."""

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_FLAGS = struct.Struct("16sh14x")


def fork_as_first() -> int:
    """Fork a child that is the first process of a pid namespace of its own; later children are in ours again."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(linux.NEW_PID)
        pid = os.fork()
        if pid:
            linux.setns(home, linux.NEW_PID)
        return pid
    finally:
        os.close(home)


def leave(hostname: str) -> None:
    """Leave every namespace but user and pid for fresh ones, under a host name and with a loopback that is up."""
    linux.unshare(OWN)
    keep_mounts_private()
    socket.sethostname(hostname)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _, flags = _FLAGS.unpack(fcntl.ioctl(control, _GET_FLAGS, _FLAGS.pack(b"lo", 0)))
        fcntl.ioctl(control, _SET_FLAGS, _FLAGS.pack(b"lo", flags | _UP))


def keep_mounts_private() -> None:
    """Let no mount that is made here be seen in another mount namespace, nor the other way round."""
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)


def user_namespace(write_maps: Callable[[int], None]) -> int:
    """Make a user namespace and give a descriptor of it. `write_maps` writes the maps of the process that it is given.

    Raises OSError where the machine does not let us.
    """
    made, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _wait_in_user_namespace(made[1], done)
    os.close(made[1])
    os.close(done[0])
    try:
        if not os.read(made[0], 1):
            raise PermissionError(1, "a user namespace is not allowed here")
        write_maps(pid)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(made[0])
        os.close(done[1])
        os.waitpid(pid, 0)


def _wait_in_user_namespace(made: int, done: tuple[int, int]) -> None:
    """Stay, as the child, in a user namespace until the parent has what it needs."""
    try:
        os.close(done[1])
        with suppress(OSError):
            linux.unshare(linux.NEW_USER)
            os.write(made, b"1")
            os.read(done[0], 1)
    finally:
        os._exit(0)
