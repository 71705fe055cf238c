"""Roots: the file systems that a world, its nodes and their containers see.

A world shows the machine's system folders read-only, with owners as its user namespace maps them. A node lays an
overlay of its own over each, a container over its node's, so that what is installed is there and what is written stays.
Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from dynamos.jobs import linux

SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "srv", "usr", "var")
_EMPTY = ("dev", "home", "mnt", "proc", "root", "run", "sys", "tmp")
_DEVICES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0),
    "net/tun": (10, 200),
}  # fmt: skip
_SECRETS = ("etc/ssh", "etc/wireguard", "etc/ssl/private", "etc/NetworkManager", "etc/kubernetes")
STORE = "/run/store"
"""Where a node keeps what it and its containers write: a tmpfs that ends with it."""
CONTAINERS = f"{STORE}/containers"


def machine_root(show: Sequence[str], user_namespace: int) -> None:
    """Make a read-only view of the machine's system folders and of `show` this mount namespace's root.

    `user_namespace` maps the owners of files, -1 where that cannot be; then this process is in it already.
    """
    root = "/run"
    mapped = user_namespace >= 0
    linux.mount("world", root, "tmpfs", 0, "mode=755")
    for name in _EMPTY:
        os.mkdir(f"{root}/{name}")
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            os.mkdir(f"{root}/{name}")
            linux.bind(
                f"/{name}", f"{root}/{name}", linux.ATTR_RDONLY, user_namespace=user_namespace, recursive=not mapped
            )
    for path in show:
        _target(f"/{path}", root + path)
        linux.bind(path, root + path, linux.ATTR_RDONLY, user_namespace=user_namespace, recursive=not mapped)
    for name in ("proc", "sys"):
        # The kernel lets a user namespace mount these only where it can see them whole already.
        linux.bind(f"/{name}", f"{root}/{name}", 0, recursive=not mapped)
    os.mkdir(f"{root}/dev/net")
    for name, numbers in _DEVICES.items():
        _device(name, numbers, f"{root}/dev/{name}", make=mapped)
    enter(root)


def world_mounts() -> None:
    """Give a world what it writes to: its own /run and /tmp, and the processes and devices of its namespaces."""
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.mount("sysfs", "/sys", "sysfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.mount("run", "/run", "tmpfs", linux.MS_NOSUID, "mode=755")
    linux.mount("tmp", "/tmp", "tmpfs", linux.MS_NOSUID, "mode=1777")  # noqa: S108
    os.mkdir(STORE, 0o700)
    os.mkdir("/run/netns")


def own_root(base: str, show: Sequence[str], size: str) -> None:
    """Lay a root of one's own over the present one, and enter it. What is written goes below `base`.

    With `size` a fresh tmpfs of at most that size is mounted at `base`, and stays visible at the same place.
    """
    if size:
        linux.mount("store", base, "tmpfs", linux.MS_NOSUID, f"mode=700,size={size}")
    else:
        os.makedirs(base, 0o700)
    root = f"{base}/root"
    os.mkdir(root)
    linux.mount("root", root, "tmpfs", 0, "mode=755,size=64m")
    for name in _EMPTY:
        os.mkdir(f"{root}/{name}", 0o711 if name == "root" else 0o755)
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            _overlay(name, base, root)
    for path in _SECRETS:
        if os.path.isdir(f"{root}/{path}"):
            linux.mount("hidden", f"{root}/{path}", "tmpfs", linux.MS_NOSUID, "mode=755,size=1m")
    for path in show:
        _target(path, root + path)
        linux.mount(path, root + path, "", linux.MS_BIND | linux.MS_REC)
    _fill(root)
    if size:
        os.mkdir(root + base, 0o700)
        linux.mount(base, root + base, "", linux.MS_BIND)
        # `ip netns exec` takes /sys away before it mounts another one, which needs a whole one that can be seen.
        os.mkdir(f"{root}{base}/sys")
        linux.mount("sysfs", f"{root}{base}/sys", "sysfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    enter(root)


def enter(root: str) -> None:
    """Make `root`, which is a mount, the root of this mount namespace, and forget the old one."""
    os.chdir(root)
    linux.pivot_root(".", ".")
    linux.unmount(".")
    os.chdir("/")


def _overlay(name: str, base: str, root: str) -> None:
    upper, work = f"{base}/upper/{name}", f"{base}/work/{name}"
    for path in (upper, work, f"{root}/{name}"):
        os.makedirs(path)
    options = f"lowerdir=/{name},upperdir={upper},workdir={work},userxattr,index=off"
    linux.mount("overlay", f"{root}/{name}", "overlay", 0, options)


def _fill(root: str) -> None:
    """Mount what every root has of its own: processes, devices, and folders that end with it."""
    quiet = linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("proc", f"{root}/proc", "proc", quiet | linux.MS_NOEXEC)
    linux.mount("sysfs", f"{root}/sys", "sysfs", quiet | linux.MS_NOEXEC)
    for path, mode in (("run", "755"), ("tmp", "1777"), ("var/tmp", "1777")):
        linux.mount("tmp", f"{root}/{path}", "tmpfs", quiet, f"mode={mode}")
    os.mkdir(f"{root}/run/lock", 0o1777)
    os.mkdir(f"{root}/run/netns")
    linux.mount("dev", f"{root}/dev", "tmpfs", linux.MS_NOSUID, "mode=755,size=1m")
    for name in ("net", "pts", "shm"):
        os.mkdir(f"{root}/dev/{name}")
    for name, numbers in _DEVICES.items():
        _device(name, numbers, f"{root}/dev/{name}", make=False)
    linux.mount("devpts", f"{root}/dev/pts", "devpts", linux.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620")
    linux.mount("shm", f"{root}/dev/shm", "tmpfs", quiet, "mode=1777")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        os.symlink(target, f"{root}/dev/{name}")


def _device(name: str, numbers: tuple[int, int], path: str, *, make: bool) -> None:
    """Make a device, or show the one that is there: a user namespace may use devices, and make none."""
    if make:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*numbers))
        os.chmod(path, 0o666)
    elif os.path.exists(f"/dev/{name}"):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        linux.mount(f"/dev/{name}", path, "", linux.MS_BIND)


def _target(source: str, path: str) -> None:
    """Make a place to mount a file or folder at."""
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
