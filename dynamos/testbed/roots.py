# ruff: noqa: PTH101, PTH102, PTH103, PTH110, PTH112, PTH114, PTH115, PTH120, PTH211
# Paths of two trees are put together as text here.
"""Roots: the file systems that a world, its nodes and their containers see.

A world shows the machine's system folders read-only, with owners as its user namespace maps them. A node lays an
overlay of its own over each, a container over its node's, so that what is installed is there and what is written stays.
Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from dynamos.jobs import linux

SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "srv", "usr", "var")
STORE = "/run/store"
"""Where a node keeps what it and its containers write: a tmpfs that ends with it."""
CONTAINERS = f"{STORE}/containers"

_EMPTY = ("dev", "home", "mnt", "proc", "root", "run", "sys", "tmp")
_DEVICES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0),
    "net/tun": (10, 200),
}  # fmt: skip
_LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_SECRETS = ("etc/ssh", "etc/wireguard", "etc/ssl/private", "etc/NetworkManager", "etc/kubernetes")
"""Folders of the machine with keys that are nobody's business in a node: it has empty ones of its own."""
_QUIET = linux.MS_NOSUID | linux.MS_NODEV
_QUIETER = _QUIET | linux.MS_NOEXEC


def machine_root(show: Sequence[str], user_namespace: int) -> None:
    """Make a read-only view of the machine's system folders and of `show` this mount namespace's root.

    `user_namespace` maps the owners of files; -1 leaves them as they are.
    """
    root = "/run"
    linux.mount("world", root, "tmpfs", 0, "mode=755")
    for name in _EMPTY:
        os.mkdir(f"{root}/{name}")
    for name in _folders(root):
        os.mkdir(f"{root}/{name}")
        _show(f"/{name}", f"{root}/{name}", linux.ATTR_RDONLY, user_namespace)
    for path in show:
        _target(path, root + path)
        _show(path, root + path, linux.ATTR_RDONLY, user_namespace)
    for name in ("proc", "sys"):
        # The kernel lets a user namespace mount these only where it can see them whole already.
        _show(f"/{name}", f"{root}/{name}", 0, -1)
    os.mkdir(f"{root}/dev/net")
    for name, numbers in _DEVICES.items():
        try:
            os.mknod(f"{root}/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(*numbers))
            os.chmod(f"{root}/dev/{name}", 0o666)  # noqa: S103  everybody's, as on every machine
        except PermissionError:
            _device(name, root)
    enter(root)


def world_mounts(show: Sequence[str]) -> None:
    """Give a world what it writes to, its own /run and /tmp, and the processes and devices of its namespaces."""
    linux.mount("proc", "/proc", "proc", _QUIETER)
    linux.mount("sysfs", "/sys", "sysfs", _QUIETER)
    with _held(show) as held:
        linux.mount("run", "/run", "tmpfs", linux.MS_NOSUID, "mode=755")
        linux.mount("tmp", "/tmp", "tmpfs", linux.MS_NOSUID, "mode=1777")  # noqa: S108
        _show_held({path: place for path, place in held.items() if not os.path.exists(path)}, "")
    os.mkdir(STORE, 0o700)
    _networks("/run/netns")


def node_root(show: Sequence[str], size: str, *, shield: bool) -> list[str]:
    """Lay a root of one's own over the world's, with a tmpfs of at most `size` for what is written, and enter it.

    `shield` keeps root, who is root of the machine then, from the kernel's settings. Gives the system folders that
    could only be shown read-only.
    """
    linux.mount("store", STORE, "tmpfs", linux.MS_NOSUID, f"mode=700,size={size}")
    root, read_only = _own_root(STORE, show, shield=shield)
    os.mkdir(root + STORE, 0o700)
    linux.mount(STORE, root + STORE, "", linux.MS_BIND)
    os.mkdir(root + CONTAINERS, 0o700)
    # `ip netns exec` takes /sys away before it mounts another one, which needs a whole one that can be seen; so do
    # containers and their /proc.
    for name, kind in (("sys", "sysfs"), ("proc", "proc")):
        os.mkdir(f"{root}{STORE}/{name}")
        linux.mount(kind, f"{root}{STORE}/{name}", kind, _QUIETER)
    enter(root)
    return read_only


def container_root(name: str, show: Sequence[str], *, shield: bool) -> list[str]:
    """Lay a root of one's own over a node's, with what is written in the node's store, and enter it, as a node does."""
    base = f"{CONTAINERS}/{name}"
    os.mkdir(base, 0o700)
    root, read_only = _own_root(base, show, shield=shield)
    enter(root)
    return read_only


def enter(root: str) -> None:
    """Make `root`, which is a mount, the root of this mount namespace, and forget the old one."""
    os.chdir(root)
    linux.pivot_root(".", ".")
    linux.unmount(".")
    os.chdir("/")


def _own_root(base: str, show: Sequence[str], *, shield: bool) -> tuple[str, list[str]]:
    """Build a root whose writes go below `base`; give its place, and the folders that are read-only in it."""
    root = f"{base}/root"
    os.mkdir(root)
    linux.mount("root", root, "tmpfs", 0, "mode=755,size=64m")
    for name in _EMPTY:
        os.mkdir(f"{root}/{name}", 0o711 if name == "root" else 0o755)
    read_only = [name for name in _folders(root) if not _overlay(name, base, root)]
    for path in _SECRETS:
        if os.path.isdir(f"{root}/{path}"):
            linux.mount("hidden", f"{root}/{path}", "tmpfs", linux.MS_NOSUID, "mode=755,size=1m")
    _fill(root)
    with _held(show) as held:
        _show_held(held, root)
    if shield:
        _shield(root)
    return root, read_only


def _folders(root: str) -> list[str]:
    """Give the system folders that there are; those that are links, as most are today, become links in `root`."""
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
    return [name for name in SYSTEM if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]


def _overlay(name: str, base: str, root: str) -> bool:
    """Lay a layer over a system folder; tell whether that could be.

    It cannot over one with other mounts below, nor over layers that are two deep already. Then the folder is shown
    read-only as it is, and /etc, which must be our own, is copied.
    """
    upper, work = f"{base}/upper/{name}", f"{base}/work/{name}"
    for path in (upper, work, f"{root}/{name}"):
        os.makedirs(path)
    options = f"lowerdir=/{name},upperdir={upper},workdir={work},userxattr,index=off"
    try:
        linux.mount("overlay", f"{root}/{name}", "overlay", 0, options)
    except OSError:
        if name == "etc":
            _copy(f"/{name}", f"{root}/{name}")
            return True
        linux.mount(f"/{name}", f"{root}/{name}", "", linux.MS_BIND | linux.MS_REC)
        return False
    return True


def _copy(source: str, target: str) -> None:
    """Copy a folder as far as it can be read."""
    from shutil import Error, copytree  # noqa: PLC0415  large, and seldom needed

    with suppress(Error):
        copytree(source, target, symlinks=True, ignore_dangling_symlinks=True, dirs_exist_ok=True)


def _show(source: str, target: str, attributes: int, user_namespace: int) -> None:
    """Show a folder elsewhere, without other mounts below unless the kernel says that they may not be taken off."""
    try:
        linux.bind(source, target, attributes, user_namespace=user_namespace, recursive=False)
    except OSError:
        linux.bind(source, target, attributes, user_namespace=user_namespace)


@contextmanager
def _held(paths: Sequence[str]) -> Iterator[dict[str, str]]:
    """Give for each path one that leads there still when something else is mounted over it."""
    fds = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}
    try:
        yield {path: f"/proc/self/fd/{fd}" for path, fd in fds.items()}
    finally:
        for fd in fds.values():
            os.close(fd)


def _show_held(held: dict[str, str], root: str) -> None:
    for path, place in held.items():
        _target(place, root + path)
        linux.mount(place, root + path, "", linux.MS_BIND | linux.MS_REC)


def _fill(root: str) -> None:
    """Mount what every root has of its own: processes, devices, and folders that end with it."""
    linux.mount("proc", f"{root}/proc", "proc", _QUIETER)
    linux.mount("sysfs", f"{root}/sys", "sysfs", _QUIETER)
    for path, mode in (("run", "755"), ("tmp", "1777"), ("var/tmp", "1777")):
        linux.mount("tmp", f"{root}/{path}", "tmpfs", _QUIET, f"mode={mode}")
    os.mkdir(f"{root}/run/lock", 0o1777)
    _networks(f"{root}/run/netns")
    linux.mount("dev", f"{root}/dev", "tmpfs", linux.MS_NOSUID, "mode=755,size=1m")
    for name in ("net", "pts", "shm"):
        os.mkdir(f"{root}/dev/{name}")
    for name in _DEVICES:
        _device(name, root)
    linux.mount("devpts", f"{root}/dev/pts", "devpts", linux.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620")
    linux.mount("shm", f"{root}/dev/shm", "tmpfs", _QUIET, "mode=1777")  # noqa: S108
    for name, target in _LINKS.items():
        os.symlink(target, f"{root}/dev/{name}")


def _networks(path: str) -> None:
    """Mount where `ip netns` keeps names. Else it would do so itself, over the names that are there: what is under
    such a mount cannot be removed any more."""
    os.mkdir(path)
    linux.mount("netns", path, "tmpfs", _QUIET, "mode=755")


def _device(name: str, root: str) -> None:
    """Show a device in another root: a user namespace may use devices, and make none."""
    if os.path.exists(f"/dev/{name}"):
        _target(f"/dev/{name}", f"{root}/dev/{name}")
        linux.mount(f"/dev/{name}", f"{root}/dev/{name}", "", linux.MS_BIND)


def _shield(root: str) -> None:
    """Make the kernel's settings read-only, but for those of the network, which are the node's own."""
    linux.mount(f"{root}/proc/sys/net", f"{root}/mnt", "", linux.MS_BIND)
    for path in (f"{root}/proc/sys", f"{root}/proc/sysrq-trigger"):
        if os.path.exists(path):
            linux.bind(path, path, linux.ATTR_RDONLY, recursive=False)
    linux.mount(f"{root}/mnt", f"{root}/proc/sys/net", "", linux.MS_BIND)
    linux.unmount(f"{root}/mnt")


def _target(source: str, path: str) -> None:
    """Make a place to mount a file or folder at."""
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
