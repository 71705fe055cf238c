"""Works on a WAN: what is done to links and routes in its box, one process at a time, written down before and after.

An interruption anywhere leaves a link that is written down as not whole, which is laid anew by whoever comes next.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dynamos.kit.errors import NotFound
from dynamos.model.networks import Direction
from dynamos.testbed import cables, guests, routers, wan_states
from dynamos.testbed.boxes import Box
from dynamos.testbed.cables import Cable, Kind
from dynamos.testbed.guests import Guest
from dynamos.testbed.items import Link
from dynamos.testbed.locks import locked
from dynamos.testbed.wan_states import Laid, WanState

logger = logging.getLogger(__name__)

LOCK_SECONDS = 60.0


class Works:
    """What works on the WAN in a box, with its state in a folder."""

    def __init__(self, folder: Path, box: Box) -> None:
        self._folder = folder
        self._box = box

    def put(self, state: WanState, links: Sequence[Link]) -> None:
        """Change the links that can become these, and lay the others, all at once."""
        fresh: dict[str, Laid] = {}
        for link in links:
            known = state.links.get(link.name)
            if known and known.whole and known.present.can_become(link):
                self.become(self.state(), known.model_copy(update={"declared": link, "present": link}))
            else:
                slot = known.slot if known else state.free_slot(taken=[laid.slot for laid in fresh.values()])
                fresh[link.name] = Laid(declared=link, present=link, slot=slot, kind=_kind(state, link))
        if fresh:
            self.lay(self.state(), list(fresh.values()))

    def change(self, state: WanState, known: Laid, update: Mapping[str, object]) -> Link:
        return self.become(state, known.model_copy(update={"present": known.present.model_copy(update=update)}))

    def become(self, state: WanState, laid: Laid) -> Link:
        """Make a link that is there what `laid` says of it."""
        known, kind = state.links[laid.present.name], _kind(state, laid.present)
        if not known.whole or (laid.kind == "plain" and kind != "plain"):
            self.lay(state, [laid.model_copy(update={"kind": kind, "whole": True})])
            return laid.present
        before = known.present
        state = self.begin(state, [laid])
        impairs_else = _impairments(before) != _impairments(laid.present)
        script = laid.cable.impaired() if impairs_else else ""
        script += laid.cable.sized() if before.mtu != laid.present.mtu else ""
        self.script(script)
        if impairs_else:
            self._instruct(state, [laid.cable])
        # A guest that sends into a tap which is down never sends there again: its own devices go first and come last.
        if laid.present.state == "cut":
            self._release([laid.cable])
        self.script(laid.cable.stated() if before.state != laid.present.state else "")
        if before.state == "cut":
            self._instruct(state, [laid.cable], verbs=guests.VERBS[:1])
        self._remember(state, laid.cable)
        self._end(state, [laid])
        return laid.present

    def lay(self, state: WanState, fresh: Sequence[Laid]) -> None:
        """Lay links anew, whatever there is of them, and the routes over them."""
        wires = [laid.cable for laid in fresh]
        if any(cable.kind == "guest" for cable in wires):
            guests.require(self._box)
        before = [state.links[laid.present.name].cable for laid in fresh if laid.present.name in state.links]
        state = self.begin(state, fresh)
        self._release(before)
        self.script("".join(cable.gone() + cable.laid() + cable.impaired() for cable in wires))
        self._instruct(state, wires)
        self.script("".join(cable.stated() for cable in wires))
        state = self._end(state, fresh)
        sites = dict.fromkeys(site for laid in fresh for site in laid.present.sites)
        self.route(state, [site for site in sites if site in state.routes])

    def remove(self, state: WanState, laid: Laid) -> None:
        """Remove a link, and its guest where that has no other."""
        cable = laid.cable
        self.begin(state, [laid])
        self._release([cable])
        self.script(cable.gone())
        after = self.save(state.without_link(laid.present.name))
        if cable.kind == "guest" and not after.on_guest(cable.guest):
            Guest(self._box, cable.guest).stop()

    def begin(self, state: WanState, worked_on: Sequence[Laid]) -> WanState:
        """Write down what is being worked on, so that whoever comes after an interruption knows."""
        return self.save(state.with_links(laid.model_copy(update={"whole": False}) for laid in worked_on))

    def _end(self, state: WanState, done: Sequence[Laid]) -> WanState:
        for laid in done:
            logger.info("wan.link", extra={"link": laid.present.name, "state": laid.present.state, "by": laid.kind})
        return self.save(state.with_links(done))

    def _instruct(self, state: WanState, cables: Sequence[Cable], *, verbs: Sequence[str] = guests.VERBS) -> None:
        """Have guests do what they have to for these links, and start those that are not there."""
        for number in dict.fromkeys(cable.guest for cable in cables if cable.kind == "guest"):
            mine = [cable for cable in cables if cable.guest == number and cable.kind == "guest"]
            guest = Guest(self._box, number)
            self._remember(state, mine[0])
            if guest.running:
                for verb in verbs:
                    guest.tell(verb, [line for cable in mine for line in getattr(cable, verb)])
            else:
                guest.start()

    def _release(self, cables: Sequence[Cable]) -> None:
        """Have guests let go of these links' taps, which are about to go."""
        for number in dict.fromkeys(cable.guest for cable in cables if cable.kind == "guest"):
            guest = Guest(self._box, number)
            if guest.running:
                inner = [name for cable in cables if cable.guest == number for name in guests.inside(cable.slot)]
                guest.tell("ip", [f"link set {name} down" for name in inner])

    def _remember(self, state: WanState, cable: Cable) -> None:
        if cable.kind == "guest":
            Guest(self._box, cable.guest).remember(state.on_guest(cable.guest))

    def route(self, state: WanState, sites: Sequence[str]) -> None:
        """Make the routers of these sites know the routes that are written down for them, and no others of ours."""
        devices = {name: laid.cable.device for name, laid in state.links.items()}
        for site in sites:
            hops = [hop for hop in state.routes[site].hops if not hop.link or hop.link in devices]
            if site in state.dark:
                hops = [hop for hop in hops if hop.link]
            there = self._box.run(["ip", "-n", site, "-o", "route", "show", "proto", routers.PROTOCOL]).text
            known = [line.split()[0] for line in there.splitlines()]
            self.script(routers.routed(site, hops, devices, known))

    def script(self, text: str, *, fds: Sequence[int] = ()) -> str:
        """Run a script in the box, and give what it prints. Raises JobFailed with what it says of its failure."""
        return self._box.run(["sh", "-es"], stdin=text.encode(), fds=fds).text if text else ""

    @contextmanager
    def held(self) -> Iterator[WanState]:
        """Keep everybody else from working here, and give what is written down."""
        with locked(self._folder, within=LOCK_SECONDS):
            yield self.state()

    def state(self) -> WanState:
        """Give what is written down. Raises NotFound."""
        state = wan_states.load(self._folder)
        if state is None:
            raise NotFound("the testbed has no WAN", where=str(self._folder), hint="dynamos up")
        return state

    def save(self, state: WanState) -> WanState:
        """Write down a state, and give it."""
        wan_states.save(self._folder, state)
        return state


def _kind(state: WanState, link: Link) -> Kind:
    if not cables.needs_netem(link):
        return "plain"
    return "kernel" if state.kernel else "guest"


def _impairments(link: Link) -> tuple[Direction, Direction, int]:
    return link.forward, link.backward, link.mtu
