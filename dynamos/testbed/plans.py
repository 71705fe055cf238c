"""Plans: the actions that lead from facts to a wanted state. Pure, deterministic, and empty where nothing differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dynamos.testbed.actions import Action, Change, Make, Remove
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import KINDS, WORLD, Item, Key, Overlay, Seat
from dynamos.testbed.wanted import Wanted


def plan(wanted: Wanted, facts: Facts) -> tuple[Action, ...]:
    """Give the actions that make what there is into what is wanted.

    What can be changed while it is in use is changed; else it is removed and made again, with what cannot be without
    it. First members leave overlays in order, then things are removed, what is on them with them, then all that is
    missing is made, in the order in which it needs each other.
    """
    return tuple(_Planner(wanted, facts).actions())


class _Planner:
    def __init__(self, wanted: Wanted, facts: Facts) -> None:
        self._there = facts.items
        self._wanted = {**self._leased(wanted), **wanted.items}
        self._doomed = self._find_doomed(facts.broken)

    def actions(self) -> Iterator[Action]:
        yield from self._partings()
        yield from self._removals()
        for kind in KINDS:
            items = [item for item in self._wanted.values() if item.kind == kind]
            yield from (change for item in items if (change := self._change(item)))
            yield from (Make(item) for item in items if not self._stays(item.key))

    def _leased(self, wanted: Wanted) -> dict[Key, Item]:
        """Give the overlays of requests that are under way: whoever asked for them takes them down, not a plan."""
        found: dict[Key, Item] = {}
        for key, item in self._there.items():
            if isinstance(item, Overlay) and item.scope == "request":
                seats = tuple(seat for seat in item.seats if seat.keys <= wanted.items.keys())
                if seats:
                    found[key] = item.with_seats(seats)
        return found

    def _find_doomed(self, broken: Mapping[Key, str]) -> dict[Key, str]:
        """Give what has to go, each with the reason, which is empty where it is not wanted."""
        doomed: dict[Key, str] = {}
        for key, item in sorted(self._there.items(), key=lambda each: KINDS.index(each[0].kind)):
            lost = [each for each in item.needs() if each in doomed or each not in self._there]
            if key not in self._wanted:
                doomed[key] = ""
            elif key in broken:
                doomed[key] = broken[key]
            elif not _can_become(item, self._wanted[key]):
                doomed[key] = "another one is wanted"
            elif lost or WORLD in doomed:
                doomed[key] = f"without {min(lost, default=WORLD)}"
        return doomed

    def _stays(self, key: Key) -> bool:
        return key in self._there and key not in self._doomed

    def _lost(self, seat: Seat) -> list[Key]:
        """Give what a member is made of that is not there or goes."""
        return [key for key in seat.keys if not self._stays(key)]

    def _leaves(self, seat: Seat, after: Item) -> bool:
        """Tell whether a member leaves, and can still do so itself."""
        able = Key("container", seat.container) in self._there and self._stays(Key("node", seat.node))
        return able and not self._remains(seat, after)

    def _remains(self, seat: Seat, after: Item) -> bool:
        return isinstance(after, Overlay) and seat in after.seats and not self._lost(seat)

    def _parted(self, overlay: Overlay) -> Overlay | None:
        """Give the overlay without the members that leave it and those that are lost; None where nobody leaves."""
        after = self._wanted[overlay.key]
        if not any(self._leaves(seat, after) for seat in overlay.seats):
            return None
        return overlay.with_seats(tuple(seat for seat in overlay.seats if self._remains(seat, after)))

    def _partings(self) -> Iterator[Action]:
        for key, overlay in self._there.items():
            if isinstance(overlay, Overlay) and self._stays(key) and (parted := self._parted(overlay)):
                yield Change(overlay, parted)

    def _removals(self) -> Iterator[Action]:
        """Remove what goes, the last made first; without the world, all of it goes at once."""
        if WORLD in self._doomed:
            yield Remove(self._there[WORLD], self._doomed[WORLD])
            return
        for key in sorted(self._doomed, key=lambda each: (-KINDS.index(each.kind), each.name)):
            yield Remove(self._there[key], self._doomed[key])

    def _change(self, item: Item) -> Change | None:
        """Give the change that an item which stays needs."""
        if not self._stays(item.key):
            return None
        before = self._there[item.key]
        if isinstance(before, Overlay) and isinstance(item, Overlay):
            # whoever was lost and is wanted joins again; whoever was lost and is not has still to be forgotten
            known = tuple(seat for seat in before.seats if not (self._lost(seat) and seat in item.seats))
            before = self._parted(before) or before.with_seats(known)
        return Change(before, item) if before != item else None


def _can_become(there: Item, wanted: Item) -> bool:
    return type(there) is type(wanted) and there.can_become(wanted)
