"""Faults: what a testbed shall be while something is wrong with it. Pure: a fault is another wanted state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dynamos.kit.errors import NotFound
from dynamos.kit.words import suggest
from dynamos.model.networks import Change, Fault
from dynamos.testbed.items import Container, Item, Key, Link, Node, Overlay
from dynamos.testbed.wanted import Wanted


def faulted(wanted: Wanted, faults: Iterable[Fault]) -> Wanted:
    """Give what is wanted after these faults, in this order, each upon those before it.

    A site without power has no nodes; its router and its links stay. Routes stay as they are: a cut link is not gone
    around. Raises NotFound for a link or a site that is not there.
    """
    links, off = dict(wanted.of(Link)), set[str]()
    whole = dict(links)
    sites = {node.site for node in wanted.of(Node).values()}
    for fault in faults:
        if fault.site is not None:
            _known("site", fault.site, sites)
            (off.add if fault.action == "power-off" else off.discard)(fault.site)
        elif fault.link is not None:
            name = _link_name(fault.link, links)
            links[name] = _after(links[name], whole[name], fault)
    items = {key: links.get(key.name, item) if key.kind == "link" else item for key, item in wanted.items.items()}
    return replace(wanted, items=_without_power(items, off))


def _after(link: Link, whole: Link, fault: Fault) -> Link:
    match fault.action:
        case "heal":
            return whole
        case "cut":
            return link.model_copy(update={"state": "cut"})
        case "silence":
            return link.model_copy(update={"state": "silent"})
    change = fault.change or Change()
    return link.model_copy(update={"forward": change.of(link.forward), "backward": change.of(link.backward)})


def _without_power(items: dict[Key, Item], off: set[str]) -> dict[Key, Item]:
    if not off:
        return items
    gone = {key for key, item in items.items() if isinstance(item, Node | Container) and item.site in off}
    left: dict[Key, Item] = {}
    for key, item in items.items():
        if isinstance(item, Overlay):
            seats = tuple(seat for seat in item.seats if not seat.keys & gone)
            if seats:
                left[key] = item.with_seats(seats)
        elif key not in gone:
            left[key] = item
    return left


def _link_name(name: str, links: dict[str, Link]) -> str:
    for link in links.values():
        if name in ("-".join(link.sites), "-".join(reversed(link.sites))):
            return link.name
    _known("link", name, links)
    return name


def _known(word: str, name: str, known: Iterable[str]) -> None:
    names = sorted(known)
    if name not in names:
        hint = suggest(name, names) or f"known: {', '.join(names)}"
        raise NotFound(f"there is no {word} {name!r}", hint=hint)
