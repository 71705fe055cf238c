# ruff: noqa: PTH100, PTH102, PTH103, PTH110, PTH112, PTH114, PTH115, PTH120, PTH211
# Paths of two trees are put together as text here.
"""The file system that services see: a small read-only tree of what an interpreter needs, and nothing of the host.

It is built once, in the mount namespace of the zygote. The host's tree stays at `HOST` there, so that a keeper can
take a party's data from it; each keeper takes `HOST` away from its own copy before a service runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import dynamos
from dynamos.jobs import linux

HOST = "/.host"
DATA, SERVICE, SCRATCH = "/data", "/service", "/tmp"  # noqa: S108  the service's own, in its own tree

_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr")
_SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/alternatives", "/etc/localtime")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LINKS = {
    "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2", "/dev/shm": SCRATCH,  # noqa: S108
}  # fmt: skip
_FILES = {
    "/etc/passwd": f"service:x:1000:1000:service:{SCRATCH}:/bin/sh\n",
    "/etc/group": "service:x:1000:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/hostname": "service\n",
}
_READ_ONLY = linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV


def build(wanted: Mapping[str, str]) -> None:
    """Make a tree that shows `wanted` (see `needed`) the root of this process's own mount namespace.

    Raises OSError.
    """
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("root", SCRATCH, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755,size=1m")
    os.mkdir(SCRATCH + HOST)
    linux.pivot_root(SCRATCH, SCRATCH + HOST)
    os.chdir("/")
    for folder in (DATA, SERVICE, SCRATCH, "/proc", "/dev", "/etc"):
        os.mkdir(folder)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    for path, real in wanted.items():
        show(path, real)
    for name in _DEVICES:
        _place(f"/dev/{name}", folder=False)
        linux.bind(f"{HOST}/dev/{name}", f"/dev/{name}", linux.ATTR_NOSUID | linux.ATTR_NOEXEC)
    for path, target in _LINKS.items():
        os.symlink(target, path)
    for path, text in _FILES.items():
        Path(path).write_text(text, encoding="ascii")
    linux.restrict("/", _READ_ONLY)


def show(path: str, real: str) -> None:
    """Show what lies at `real` in the host's tree as `path`, read-only; a link as a link."""
    source = HOST + real
    if os.path.islink(HOST + path):
        _place(os.path.dirname(path), folder=True)
        os.symlink(os.readlink(HOST + path), path)
    else:
        _place(path, folder=os.path.isdir(source))
        linux.bind(source, path, _READ_ONLY)


def needed(folders: Iterable[str]) -> dict[str, str]:
    """Give the paths of interpreter, packages and system programs with the real ones, none inside another.

    A path that is a link is there twice: as itself, and as what it leads to.
    """
    own = [sys.prefix, sys.base_prefix, sys.base_exec_prefix, os.path.dirname(os.path.abspath(dynamos.__file__))]
    packages = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    named = [*own, *packages, *folders, *_SETTINGS]
    extra = {path for name in named for path in (name, os.path.realpath(name)) if path != "/"}
    found: dict[str, str] = {}
    for path in (*_SYSTEM, *sorted(extra)):
        if os.path.exists(path) and not any(covers(shown, path) for shown in found):
            found[path] = os.path.realpath(path)
    return found


def covers(folder: str, path: str) -> bool:
    """Tell whether `path` is `folder` or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _place(path: str, *, folder: bool) -> None:
    """Make an empty folder or file to mount on."""
    os.makedirs(path if folder else os.path.dirname(path), mode=0o755, exist_ok=True)
    if not folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
