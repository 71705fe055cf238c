"""Checks of what is to be made, before anything is: whether this machine can make it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import DynamosError, Mistake
from dynamos.testbed import impairments
from dynamos.testbed.items import Item, Link, Overlay, World
from dynamos.testbed.overlays.registry import driver

_SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NEEDED = {"ip": "iproute2", "nsenter": "util-linux"}


def check(item: Item, folder: Path) -> list[Mistake]:
    """Give what keeps this machine from making the item, each with what to do; empty where nothing does."""
    match item:
        case World():
            return [*_world(folder)]
        case Link():
            return [*_link(item)]
        case Overlay():
            return [*_overlay(item)]
    return []


def _world(folder: Path) -> Iterator[Mistake]:
    if sys.platform != "linux":
        yield Mistake("driver", "the driver `namespaces` needs Linux", "use the driver `ssh`, and machines that exist")
        return
    if os.geteuid() != 0:
        yield Mistake("driver", "the driver `namespaces` needs root here", "run pulumi as root")
    for program, package in _NEEDED.items():
        if shutil.which(program, path=_SEARCHED) is None:
            yield Mistake("driver", f"the program {program!r} is missing", f"install Debian's package {package}")
    if StateFolder(folder).is_held():
        yield Mistake("name", "a testbed of this name is up by `dynamos up`", "stop it with `dynamos down`")


def _link(link: Link) -> Iterator[Mistake]:
    for way in (link.forward, link.backward):
        try:
            impairments.check(way, f"link {link.name}")
        except DynamosError as error:
            yield Mistake(error.where, error.message, error.hint)
            return


def _overlay(overlay: Overlay) -> Iterator[Mistake]:
    try:
        needed = driver(overlay.driver).capabilities.programs
    except DynamosError as error:
        yield Mistake(f"overlay {overlay.name}", error.message, error.hint)
        return
    for program, package in needed.items():
        if shutil.which(program, path=_SEARCHED) is None:
            hint = f"install Debian's package {package}, or run `dynamos doctor --fix`"
            yield Mistake(f"overlay {overlay.name}", f"the program {program!r} is missing", hint)
