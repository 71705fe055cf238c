"""Imports of images into a node, under every name that a pod may call them by."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cluster import commands
from dynamos.kit.errors import NotFound, Unavailable
from dynamos.testbed.boxes import Box

_IMPORTED = re.compile(r"unpacking (\S+) \((sha256:[0-9a-f]{64})\)")
_WITHIN = 300.0


def imported(box: Box, archive: Path) -> list[str]:
    """Import an archive, and give the names of its images: with their tags, and with their digests.

    Raises NotFound where there is no archive, Unavailable where it holds no image with a name, JobFailed where it is
    none.
    """
    try:
        fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"there is no such archive: {error.strerror}", where=str(archive)) from None
    try:
        done = box.run(commands.ctr("images", "import", "/proc/self/fd/3"), fds=[fd], within=_WITHIN)
    finally:
        os.close(fd)
    found = _IMPORTED.findall(done.text)
    if not found:
        raise Unavailable(f"it holds no image with a name: {done.text.strip()}", where=str(archive))
    names = []
    for name, digest in found:
        pinned = f"{repository(name)}@{digest}"  # a kubelet leaves the tag out where there is a digest
        box.run(commands.ctr("images", "tag", "--force", name, pinned))
        names += [name, pinned]
    return names


def repository(name: str) -> str:
    """Give the name of an image without its tag and digest."""
    plain = name.partition("@")[0]
    head, _, tail = plain.rpartition(":")
    return head if head and "/" not in tail else plain
