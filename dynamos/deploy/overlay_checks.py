"""Checks of a profile's overlay, groups, subnets and faults."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from itertools import combinations

from dynamos.deploy.cross_checks import near_or_known
from dynamos.deploy.notes import Notes
from dynamos.deploy.site_checks import figures
from dynamos.model.networks import UNDERLAY_MTU, Group
from dynamos.model.overheads import SMALLEST_MTU, TRAITS, inner_mtu
from dynamos.model.profiles import Profile
from dynamos.model.sites import MOST_NODES
from dynamos.model.subnets import Subnets
from dynamos.testbed.addresses import shares


def check_overlay(profile: Profile, notes: Notes, parties: Collection[str] | None, lost: Collection[str]) -> None:
    """Note what is wrong with the overlay and whatever surrounds it. See `site_checks.check_sites`."""
    if "overlay" not in lost:
        _without_networks(profile, notes)
        _options(profile, notes)
        if "links" not in lost:
            _mtu(profile, notes)
    if not {"overlay", "groups"} & set(lost):
        _groups(profile, notes, parties)
    if "subnets" not in lost:
        _subnets(profile, notes)
    if not {"links", "sites"} & set(lost):
        _timeline(profile, notes, whole="timeline" not in lost)


def _without_networks(profile: Profile, notes: Notes) -> None:
    """The driver `processes` makes no network. What asks for protection is a mistake then; what does not, a warning."""
    if profile.driver == "processes" and profile.overlay.driver != "none":
        message = f"the driver 'processes' has no networks, so there can be no overlay {profile.overlay.driver!r}"
        notes.wrong(("overlay", "driver"), message, "write driver: namespaces, or overlay: {driver: none}")
    for member in ("links", "timeline"):
        theirs = member == "links" and profile.driver in ("ssh", "kubernetes")
        if getattr(profile, member) and profile.driver != "namespaces" and not theirs:
            message = f"the driver {profile.driver!r} makes no networks: {member} have no effect"
            notes.odd((member,), message.replace("timeline have", "the timeline has"), "write driver: namespaces")


def _options(profile: Profile, notes: Notes) -> None:
    overlay = profile.overlay
    known = TRAITS[overlay.driver].options
    for name, value in overlay.options.items():
        path = ("overlay", "options", name)
        if name not in known:
            hint = near_or_known(name, known) if known else "it takes none"
            notes.wrong(path, f"overlay driver {overlay.driver!r} has no option {name!r}", hint)
        elif not re.fullmatch(known[name], value):
            choices = known[name].split("|")
            expected = " or ".join(map(repr, choices)) if len(choices) > 1 else "a number"
            notes.wrong(path, f"found {value!r}, expected {expected}")


def _mtu(profile: Profile, notes: Notes) -> None:
    """The smallest link decides what fits, whichever way packets go."""
    driver, asked = profile.overlay.driver, profile.overlay.mtu
    overhead = TRAITS[driver].overhead
    narrowest = min(profile.links, key=lambda link: link.mtu, default=None)
    carried = narrowest.mtu if narrowest else UNDERLAY_MTU
    where = f"link {narrowest.name!r} carries {carried}" if narrowest else f"the underlay carries {carried}"
    adds = f"overlay {driver!r} adds {f'{overhead} bytes' if overhead else 'nothing'}"
    fits = inner_mtu(driver, carried)
    if fits < carried - overhead:
        where = f"takes no packet of more than {fits}"
    if fits < SMALLEST_MTU and narrowest:
        path = ("links", profile.links.index(narrowest), "mtu")
        message = f"{adds} to a packet, which leaves {fits} of the mtu {carried}, expected at least {SMALLEST_MTU}"
        notes.wrong(path, message, f"write at least {SMALLEST_MTU + overhead}, or take another overlay")
    elif asked is not None and asked > fits:
        hint = f"write at most {fits}, or leave it out: it is computed"
        notes.wrong(("overlay", "mtu"), f"found mtu {asked}: {adds} and {where}, expected at most {fits}", hint)


def _groups(profile: Profile, notes: Notes, parties: Collection[str] | None) -> None:
    groups, scope = profile.groups, profile.overlay.scope
    if scope == "group" and not groups:
        hint = "write groups: {name: {parties: […]}}, or another scope"
        notes.wrong(("overlay", "scope"), "the scope 'group' needs groups", hint)
    if groups and scope != "group":
        notes.odd(("groups",), f"groups have no effect with the scope {scope!r}", "write overlay: {scope: group}")
    pairs: dict[tuple[str, str], str] = {}
    for name, group in groups.items():
        _members(name, group, notes, parties)
        for pair in combinations(sorted(set(group.parties)), 2):
            if (first := pairs.setdefault(pair, name)) != name:
                both = " and ".join(map(repr, pair))
                message = f"{both} are both in groups {first!r} and {name!r}: it is open which overlay they meet in"
                notes.wrong(("groups", name, "parties"), message, "let any two parties share one group at most")
    grouped = {party for group in groups.values() for party in group.parties}
    for party in parties or () if groups and scope == "group" else ():
        if party not in grouped:
            notes.odd(("groups",), f"party {party!r} is in no group: nobody can exchange data with it", "add it to one")


def _members(name: str, group: Group, notes: Notes, parties: Collection[str] | None) -> None:
    path = ("groups", name, "parties")
    for index, party in enumerate(group.parties):
        if parties is not None:
            notes.known((*path, index), "party", party, parties)
        if party in group.parties[:index]:
            notes.wrong((*path, index), f"party {party!r} is in the group already", "name it once")
    if len(set(group.parties)) < 2:  # noqa: PLR2004
        notes.odd(path, f"group {name!r} joins fewer than two parties", "add parties")


def _subnets(profile: Profile, notes: Notes) -> None:
    ranges = {name: getattr(profile.subnets, name) for name in Subnets.model_fields}
    for one, other in combinations(ranges, 2):
        if ranges[one].overlaps(ranges[other]):
            message = f"range {ranges[other]} overlaps with that of {one}, {ranges[one]}"
            notes.wrong(("subnets", other), message, "take ranges apart from each other")
    room = shares(profile.subnets)
    sites = profile.sites.values()
    on_node = max((math.ceil(len(site.parties) / len(site.nodes)) for site in sites), default=0)
    wanted = {
        "wan": [("sites", len(sites), room.sites), ("links", len(profile.links), room.links)],
        "containers": [
            ("nodes", len(sites) * MOST_NODES, room.nodes),
            ("containers on a node", on_node, room.containers),
        ],
        "marketplace": [("sites", len(sites), room.seats)],
        "groups": [("groups", len(profile.groups), room.groups)],
        "requests": [("concurrent jobs", profile.settings.concurrent_jobs, room.requests)],
    }
    for member, needs in wanted.items():
        for what, need, has in needs:
            if need > has:
                message = f"range {ranges[member]} has room for {has} {what}, expected at least {need}"
                notes.wrong(("subnets", member), message, "take a larger range, or fewer of them")


def _timeline(profile: Profile, notes: Notes, *, whole: bool) -> None:
    names = [link.name for link in profile.links]
    broken: set[str] = set()
    for index in sorted(range(len(profile.timeline)), key=lambda at: profile.timeline[at].at):
        fault, path = profile.timeline[index], ("timeline", index)
        link = None
        if fault.site is not None:
            known, subject = notes.known((*path, "site"), "site", fault.site, profile.sites), fault.site
        else:
            link = profile.link(fault.link or "")
            known, subject = link is not None, link.name if link else ""
            if not known:
                notes.known((*path, "link"), "link", fault.link or "", names)
        if fault.change and link:
            figures(notes, (*path, "change"), fault.change, fault.change.of(link))
        key = f"{'site' if fault.site else 'link'} {subject}"
        if fault.action in ("heal", "power-on"):
            if known and whole and key not in broken:
                notes.odd((*path, "action"), f"{key} is whole at {fault.at}: nothing is mended", "look at the order")
            broken.discard(key)
        else:
            broken.add(key)
