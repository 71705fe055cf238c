"""Fresh namespaces: what a process gives itself before it is the first of a world, a node or a container.

Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from dynamos.jobs import linux

OWN = linux.NEW_MOUNT | linux.NEW_NET | linux.NEW_UTS | linux.NEW_IPC | linux.NEW_CGROUP
"""Every kind but pid, which begins with a child, and user, which a world has one of."""

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


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
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    socket.sethostname(hostname)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, asked))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def user_namespace(maps: dict[str, str]) -> int:
    """Make a user namespace with these texts as `uid_map` and `gid_map`, and give a descriptor of it.

    Without privileges the map may only be of the caller's own user and group, each on one line.
    """
    made, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _wait_in_user_namespace(made[1], done)
    os.close(made[1])
    os.close(done[0])
    try:
        if not os.read(made[0], 1):
            raise PermissionError("this machine does not let us make a user namespace")
        if os.geteuid() != 0:
            _write(pid, "setgroups", "deny")
        for kind, text in maps.items():
            _write(pid, kind, text)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(made[0])
        os.close(done[1])
        os.waitpid(pid, 0)


def _wait_in_user_namespace(made: int, done: tuple[int, int]) -> None:
    """Stay, as the child, in a user namespace until the parent has what it needs."""
    try:
        os.close(done[1])
        linux.unshare(linux.NEW_USER)
        os.write(made, b"1")
        os.read(done[0], 1)
    finally:
        os._exit(0)


def _write(pid: int, name: str, text: str) -> None:
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
