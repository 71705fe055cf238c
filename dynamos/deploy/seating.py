"""A node's seats in overlays, taken on the node itself: `python -m dynamos.deploy.seating PHASE`; JSON comes in and
goes out. What Ansible's role `overlay` calls, with the drivers that testbeds have.

    look     whether every seat of this node is there, and reaches its peers; changes nothing
    prepare  make containers and keys, and give what is public of them
    join     bring the seats in, knowing what is public of all members, and wait until all are reached
    leave    take the seats out again, and tell what is left

Keys are made here and stay. A seat that a testbed has made already is looked at, and nothing of it is changed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamos.kit.digests import digest
from dynamos.kit.errors import BadInput, Broken, DynamosError, NotFound, TimedOut
from dynamos.middleware.network.messages import EXCHANGE_PORT
from dynamos.testbed.containers import Container
from dynamos.testbed.items import Overlay, Seat
from dynamos.testbed.namespaced import lacking
from dynamos.testbed.nodes import Node
from dynamos.testbed.overlays.drivers import Driver, Material, Member, Network
from dynamos.testbed.overlays.registry import driver

JOINED = "joined"
"""The folder, beside the machine's own, that says what was joined, and the digest of what with."""
_PAUSE = 0.05
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """What comes in beside the overlays: which node it is and where it is served, what is public of their members, how
    long it may take in seconds, and ports that no container may reach."""

    node: str
    folder: Path
    material: Mapping[str, Material]
    within: float
    closed: tuple[int, ...]

    def of(self, seating: Seating) -> Material:
        return self.material.get(seating.overlay.name, {})


@dataclass(frozen=True, slots=True)
class Seating:
    """One overlay as one node sees it. `folder` is where the machine is served (see `testbed.machines`)."""

    overlay: Overlay
    node: str
    folder: Path

    @property
    def network(self) -> Network:
        each = self.overlay
        return Network(each.name, each.number, each.subnet, each.mtu, each.options)

    @property
    def driver(self) -> Driver:
        return driver(self.overlay.driver)

    @property
    def members(self) -> list[Member]:
        """The members that are on this node."""
        return [self._member(seat) for seat in self.overlay.seats if seat.node == self.node]

    def peers(self, member: Member) -> list[Member]:
        """Give everybody else, wherever they are: who is elsewhere is only probed."""
        return [self._member(seat) for seat in self.overlay.seats if seat.container != member.name]

    def make(self) -> None:
        """Make the containers that are not there."""
        for member in self.members:
            self._machine.container(member.container.name)

    def is_given(self, member: Member) -> bool:
        """Tell whether the testbed itself has made this seat: the container has its address, and not from us."""
        try:
            told = member.container.run(["ip", "-4", "-o", "addr", "show", "to", member.address], check=False).text
        except NotFound:
            return False
        return bool(told.strip()) and not self._record(member).exists()

    def ready(self, member: Member, material: Material) -> bool:
        """Tell whether the member was brought in with this material, and all of it is there still."""
        try:
            known = json.loads(self._record(member).read_bytes())["digest"]
            return (
                known == self._digest(material)
                and bool(self.driver.verify_gone(self.network, member))
                and not self.silent(member)
            )
        except (OSError, ValueError, KeyError, DynamosError):
            return False

    def silent(self, member: Member) -> list[str]:
        """Probe once, and give who does not answer."""
        return self.driver.unreached(self.network, member, self.peers(member))

    def remember(self, member: Member, material: Material) -> None:
        path = self._record(member)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        told = {"digest": self._digest(material), "overlay": self.overlay.as_json(), "member": member.name}
        path.write_text(json.dumps(told), encoding="utf-8")

    def forget(self, member: Member) -> None:
        self._record(member).unlink(missing_ok=True)

    def destroy(self, member: Member) -> None:
        """End the container of a member."""
        self._box(member.name).destroy()

    @property
    def _machine(self) -> Node:
        return Node(self.folder, self.node, "")

    def _record(self, member: Member) -> Path:
        return self.folder / JOINED / f"{self.overlay.name}.{member.name}"

    def _digest(self, material: Material) -> str:
        return digest([self.overlay.as_json(), {name: dict(words) for name, words in sorted(material.items())}])

    def _member(self, seat: Seat) -> Member:
        return Member(seat.container, self._box(seat.container), self._machine, seat.underlay, seat.address)

    def _box(self, name: str) -> Container:
        return Container(self.folder / "containers" / name, name, "", self.node)


def former(seatings: Sequence[Seating], asked: Asked) -> list[tuple[Seating, Member]]:
    """Give the seats of this node that were taken in overlays which are others now: of another driver, or not there."""
    wanted = {each.overlay.name: each.overlay.with_seats(()) for each in seatings}
    found = []
    for path in sorted((asked.folder / JOINED).glob("*")):
        try:
            told = json.loads(path.read_bytes())
            overlay = Overlay.model_validate(told["overlay"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of an earlier form: it is joined anew, with the driver that it had
        if wanted.get(overlay.name) != overlay.with_seats(()):
            seating = Seating(overlay, asked.node, asked.folder)
            found += [(seating, member) for member in seating.members if member.name == told["member"]]
    return found


def look(seatings: Sequence[Seating], asked: Asked) -> dict[str, Any]:
    """Give the seats that are not as they are wanted, who is silent, and what is open that nobody has a way to now."""

    def one(each: Seating, member: Member) -> tuple[str, list[str], list[str], bool]:
        given = each.is_given(member)
        right = given or each.ready(member, asked.of(each))
        silent = [] if right and not given else _silence(each, member)
        return _name(each, member), silent, _open(each, member, asked.closed), right

    found = _all(seatings, one)
    return {
        "wrong": [name for name, _, _, right in found if not right],
        "silent": {name: silent for name, silent, _, _ in found if silent},
        "open": {name: opened for name, _, opened, _ in found if opened},
    }


def prepare(seatings: Sequence[Seating], asked: Asked) -> dict[str, Any]:
    """Give the public material of this node's members, by overlay and member, and which seats are given. What they
    were seated in before, and is another now, they leave."""
    for old, member in former(seatings, asked):
        old.driver.leave(old.network, member)
        old.forget(member)
    for each in seatings:
        each.make()
        lacking(each.driver, each.members)

    def one(each: Seating, member: Member) -> tuple[str, str, dict[str, str] | None]:
        if each.is_given(member):
            return each.overlay.name, member.name, None
        said = each.driver.prepare(each.network, member)
        if any("PRIVATE KEY" in text for text in said.values()):
            raise Broken(f"the material of {member.name!r} holds a private key")
        return each.overlay.name, member.name, said

    made: dict[str, dict[str, dict[str, str]]] = {each.overlay.name: {} for each in seatings}
    given = []
    for overlay, name, said in _all(seatings, one):
        if said is None:
            given.append(f"{overlay}/{name}")
        else:
            made[overlay][name] = said
    return {"material": made, "given": given}


def join(seatings: Sequence[Seating], asked: Asked) -> dict[str, Any]:
    """Bring this node's members in, and give those that were not in yet. Raises TimedOut that names who is silent."""
    end = time.monotonic() + asked.within

    def one(each: Seating, member: Member) -> str:
        known = asked.of(each)
        if each.is_given(member):
            _reach(each, member, end)
            return ""
        if each.ready(member, known):
            return ""
        if unknown := [peer.name for peer in each.peers(member) if peer.name not in known]:
            hint = "run the playbook for all nodes, without --limit"
            raise NotFound(f"nothing is known yet of {', '.join(unknown)}", where=_name(each, member), hint=hint)
        each.driver.join(each.network, member, known)
        _reach(each, member, end)
        each.remember(member, known)
        return _name(each, member)

    return {"joined": [name for name in _all(seatings, one) if name]}


def leave(seatings: Sequence[Seating], _: Asked) -> dict[str, Any]:
    """Take this node's members out, and give those that were in. Raises Broken that names what is left."""

    def go(each: Seating, member: Member) -> str:
        if each.is_given(member):
            return ""
        there = bool(each.driver.verify_gone(each.network, member))
        each.driver.leave(each.network, member)
        return _name(each, member) if there else ""

    def end(each: Seating, member: Member) -> list[str]:
        # After all have left: members of a node share some of it.
        if each.is_given(member):
            return []
        left = each.driver.verify_gone(each.network, member)
        if not left:
            each.forget(member)
            each.destroy(member)
        return left

    gone = [name for name in _all(seatings, go) if name]
    if left := [what for whats in _all(seatings, end) for what in whats]:
        raise Broken(f"of overlays there is left: {'; '.join(left)}")
    return {"left": gone}


def _reach(each: Seating, member: Member, end: float) -> None:
    peers = each.peers(member)
    while silent := each.driver.unreached(each.network, member, peers):
        if time.monotonic() > end:
            hint = "its node must have joined too: run the playbook for all nodes, then `verify.yml`"
            raise TimedOut(f"{_name(each, member)} does not reach {', '.join(silent)}", where=each.node, hint=hint)
        peers = [peer for peer in peers if peer.name in silent]
        time.sleep(_PAUSE)


def _silence(each: Seating, member: Member) -> list[str]:
    try:
        return each.silent(member)
    except DynamosError:
        return [peer.name for peer in each.peers(member)]


def _name(each: Seating, member: Member) -> str:
    return f"{each.overlay.name}/{member.name}"


def _all(seatings: Sequence[Seating], work: Callable[[Seating, Member], Any]) -> list[Any]:
    """Do the work for every seat at once, and give the results in order or raise the first error."""
    seats = [(each, member) for each in seatings for member in each.members]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="seat") as pool:
        return [future.result() for future in [pool.submit(work, *seat) for seat in seats]]


def _open(each: Seating, member: Member, ports: Sequence[int]) -> list[str]:
    """Give what takes connections from inside a member's container: the node's own ports, and those of peers."""
    if not ports:
        return []
    peers = each.peers(member)
    places = [f"{host}:{port}" for port in ports for host in (member.underlay, *(peer.address for peer in peers))]
    places += [f"{peer.address}:{EXCHANGE_PORT}" for peer in peers]
    try:
        told = member.container.run(["python3", "-I", "-c", _CONNECT, *places], within=30.0).text
    except NotFound:
        return []  # told of elsewhere: the seat is not as wanted
    return told.split()


_CONNECT = """
import concurrent.futures, socket, sys
def connects(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(*[place for place, got in zip(sys.argv[1:], pool.map(connects, sys.argv[1:])) if got])
"""

PHASES: Mapping[str, Callable[[Sequence[Seating], Asked], dict[str, Any]]] = {
    "look": look,
    "prepare": prepare,
    "join": join,
    "leave": leave,
}


def main() -> None:
    """Do one phase from the command line; a mistake is told in one line."""
    try:
        if len(sys.argv) != 2 or sys.argv[1] not in PHASES:  # noqa: PLR2004
            raise BadInput(f"usage: python -m dynamos.deploy.seating {'|'.join(PHASES)}")
        told = json.load(sys.stdin)
        folder, node = Path(told["folder"]), str(told["node"])
        seatings = [Seating(Overlay.model_validate(each), node, folder) for each in told["overlays"]]
        asked = Asked(
            node, folder, told.get("material", {}), float(told.get("within", 60)), tuple(told.get("closed", ()))
        )
        found = PHASES[sys.argv[1]](seatings, asked)
    except DynamosError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit) from None
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
