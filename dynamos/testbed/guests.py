"""Guests: user-mode Linux kernels in the WAN's box, which have the netem that this machine's kernel has not.

A guest joins the two taps of each of its links by redirecting what comes in on one to the other, where a netem of its
own holds it up. It begins with all that it shall be, from files, so that one that is killed goes on as it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import dynamos
from dynamos.kit.errors import Mistake, NotFound, TimedOut, Unavailable
from dynamos.testbed.boxes import Box
from dynamos.testbed.consoles import Console
from dynamos.testbed.launches import FOLDER, PAIRS

PACKAGES: Mapping[str, str] = {"linux.uml": "user-mode-linux", "modprobe": "kmod", "tc": "iproute2"}
"""What a guest needs: each program with the Debian package that brings it."""

VERBS = ("ip", "tc")
"""What a guest can be told to feed lines to, in the order in which it has to be."""

_BOOT = "import sys; sys.path.insert(0, {path!r}); from dynamos.testbed.launches import main; main()"
_BOOT_SECONDS = 20.0
"""It takes one. A kernel that was interrupted at a bad moment of its boot may stand still; then it is tried again."""
_REAL_TIME = 1
_TAIL = 600
_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
files={folder}/guest-$guest
# Where the machine's files belong to nobody, a program that takes on its owner's rights loses ours. A copy does not.
cp "$(command -v mount)" /dev/mount
/dev/mount -t proc none /proc
mkdir -p /dev/lib/modules
ln -s "/usr/lib/uml/modules/$(uname -r)" /dev/lib/modules/
said=$( {{
  modprobe -a -d /dev sch_netem sch_ingress cls_matchall act_mirred && tc -batch "$files.fixed" &&
  ip -batch "$files.ip" && tc -batch "$files.tc"
}} 2>&1)
code=$?
stty raw -echo
printf '%s %s %s\\n' ready "$code" "$(printf %s "$said" | tr '\\n' ' ' | cut -c 1-1000)"
set -f
while IFS=' ' read -r number verb words; do
  IFS=';'
  set -- $words
  said=$(printf '%s\\n' "$@" | "$verb" -batch - 2>&1)
  code=$?
  test -z "$said" || said=$(printf %s "$said" | tr '\\n' ' ' | cut -c 1-1000)
  printf '%s %s %s\\n' "$number" "$code" "$said"
done
"""


class Part(Protocol):
    """What a guest does for one link: `ip` brings its devices up, `tc` sets what they do to packets."""

    @property
    def ip(self) -> Sequence[str]: ...

    @property
    def tc(self) -> Sequence[str]: ...


def missing(box: Box) -> list[Mistake]:
    """Tell what a guest needs and this machine has not, each with the remedy."""
    if os.uname().machine != "x86_64":
        return [Mistake(box.name, "user-mode Linux is for x86_64 only", "use a kernel that has netem")]
    tests = "\n".join(f"command -v {name} >/dev/null || echo {name}" for name in PACKAGES)
    return [
        Mistake(
            box.name,
            f"this kernel has no netem, and to emulate links without it the program {name!r} is missing",
            f"install Debian's package {PACKAGES[name]}, or run `dynamos doctor --fix`",
        )
        for name in box.run(["sh", "-c", tests], check=False).text.split()
    ]


def require(box: Box) -> None:
    """Raise Unavailable where a guest needs what this machine has not."""
    if lacking := missing(box):
        raise Unavailable(lacking[0].message, where=lacking[0].where, hint=lacking[0].hint)


def inside(slot: int) -> tuple[str, str]:
    """Give the names, in its guest, of the two devices of the link in a slot."""
    pair = slot % PAIRS
    return f"vec{2 * pair}", f"vec{2 * pair + 1}"


class Guest:
    """One guest, by its number."""

    def __init__(self, box: Box, number: int) -> None:
        self._box = box
        self._number = number
        self._console = Console(box.folder / self.name)

    @property
    def name(self) -> str:
        return f"guest-{self._number}"

    @property
    def running(self) -> bool:
        return self.name in self._box.daemons()

    def start(self) -> None:
        """Start it with what it shall remember, and wait until it does that. Raises Unavailable and TimedOut."""
        self._box.put(f"{FOLDER}/init", _INIT.format(folder=FOLDER).encode(), mode=0o755)
        self._box.put(f"{FOLDER}/{self.name}.fixed", _text(_joined()))
        self._console.make()
        _hurry(self._box)
        with self._console.held(), self._console.ends() as ends:
            try:
                self._boot(ends)
            except TimedOut:
                self._boot(ends)

    def _boot(self, ends: tuple[int, int]) -> None:
        """Start it once. Raises TimedOut where it says nothing in time, and Unavailable; nothing of it runs then."""
        self._console.forget()
        self._box.start(self.name, _argv(self._number), fds=ends)
        try:
            self._console.ready(within=_BOOT_SECONDS)
        except (TimedOut, Unavailable) as error:
            self._box.stop(self.name)
            told = f"a guest of the WAN did not start: {error.message}; it said: {self._said()}"
            raise type(error)(told, where=str(self._box.log(self.name))) from None

    def stop(self) -> None:
        """End it. Does nothing where it is not there."""
        self._box.stop(self.name)

    def remember(self, parts: Sequence[Part]) -> None:
        """Write down what it shall do when it starts the next time."""
        for verb in VERBS:
            lines = [line for part in parts for line in getattr(part, verb)]
            self._box.put(f"{FOLDER}/{self.name}.{verb}", _text(lines))

    def tell(self, verb: str, lines: Sequence[str]) -> None:
        """Have it feed lines to `ip` or `tc`. Raises Unavailable where it refuses, and TimedOut."""
        self._console.tell(verb, lines)

    def _said(self) -> str:
        with suppress(OSError, NotFound):
            return self._box.log(self.name).read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip()
        return "nothing"


def _joined() -> Iterator[str]:
    """Give the lines that join the two devices of each link, whether it is there or not."""
    for slot in range(PAIRS):
        for here, there in (inside(slot), inside(slot)[::-1]):
            yield f"qdisc add dev {here} clsact"
            yield f"filter add dev {here} ingress matchall action mirred egress redirect dev {there}"


def _text(lines: Sequence[str] | Iterator[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _argv(number: int) -> list[str]:
    package = Path(dynamos.__file__).resolve().parent
    return [sys.executable, "-I", "-S", "-c", _BOOT.format(path=str(package.parent)), str(number)]


def _hurry(box: Box) -> None:
    """Let what runs in the box go before everything that is not in a hurry, so that delays are right on a busy machine.

    Only where there is another processor for the rest, and where we may.
    """
    if (os.cpu_count() or 1) > 1:
        with suppress(OSError):
            os.sched_setscheduler(box.pid, os.SCHED_RR, os.sched_param(_REAL_TIME))
