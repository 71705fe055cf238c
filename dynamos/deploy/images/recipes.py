"""Recipes: what goes into each image, and what is left out of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dynamos.deploy.images.manifests import NOBODY, Runs

PYTHON_PACKAGES = (
    "libbz2-1.0", "libc6", "libcrypt1", "libexpat1", "libffi8", "libgcc-s1", "liblzma5", "libpython3.11-minimal",
    "libpython3.11-stdlib", "libsqlite3-0", "libssl3", "libstdc++6", "libuuid1", "python3.11-minimal", "tzdata",
    "zlib1g",
)  # fmt: skip
"""Python and the libraries that it and the wheels load. No shell, no apt, nothing to look around or install with."""

_LEFT_OUT = re.compile(
    r"usr/share/(?!zoneinfo/|doc/[^/]+/copyright$).*"  # licences stay
    r"|usr/share/zoneinfo/(right|posix)/.*"
    r"|usr/lib/[^/]+/gconv/.*"  # character sets other than Unicode
    r"|etc/(?!python).*"
    r"|usr/bin/(?!python3).*|usr/sbin/.*"
    r"|usr/lib/python3\.11/(test|idlelib|turtledemo|pydoc_data|curses|distutils/tests|dbm)/.*"
    r"|usr/lib/python3\.11/lib-dynload/(_curses|_dbm|nis|ossaudiodev|readline|_?test|_ctypes_test|_xxtest|xxlimited).*"
)
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108  the one place that a pod lets it write to
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",  # there are none, and to look for them takes each start a while
}
DYNAMOS = Runs(("/usr/bin/python",), environment=_ENVIRONMENT)
BUS = Runs(("/nats-server",), environment={"PATH": "/"})
COURIER = Runs(("/courier",), environment={"PATH": "/"})


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image by name: what it is for, and how it is started."""

    name: str
    description: str
    runs: Runs


RECIPES: Mapping[str, Recipe] = {
    each.name: each
    for each in (
        Recipe("dynamos", "Python with all of DYNAMOS and its services", DYNAMOS),
        Recipe("courier", "Hands the steps of a job's part their streams", COURIER),
        Recipe("bus", "The NATS server", BUS),
    )
}


def wanted(path: str) -> bool:
    """Tell whether a file of a Debian package belongs in an image."""
    return not _LEFT_OUT.fullmatch(path)


def furnish(root: Path) -> None:
    """Make the few files of a root that no package brings: a user, how names are looked up, and where to write."""
    (root / "etc").mkdir(parents=True, exist_ok=True)
    passwd = f"root:x:0:0:root:/:/nonexistent\ndynamos:x:{NOBODY}:{NOBODY}:dynamos:/tmp:/nonexistent\n"
    (root / "etc/passwd").write_text(passwd, encoding="utf-8")
    (root / "etc/group").write_text(f"root:x:0:\ndynamos:x:{NOBODY}:\n", encoding="utf-8")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n", encoding="utf-8")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def link_python(root: Path) -> None:
    """Give the one Python its usual names."""
    for name in ("python3", "python"):
        (root / "usr/bin" / name).symlink_to("python3.11")
