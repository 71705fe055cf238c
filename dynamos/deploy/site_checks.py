"""Checks of a profile's sites and links: names that lead nowhere, parties that nothing reaches, figures past sense."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from itertools import chain

from dynamos.deploy.notes import Notes, Path
from dynamos.model.networks import Change, Direction, Link
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.model.units import Duration, Rate

LONGEST_DELAY = Duration.parse("10s")
LEAST_RATE = Rate.parse("8kbit")
MOST_LOSS = 0.5
MOST_SITES = 200
"""Every member of a marketplace's overlay gets a port by its place there, and places follow sites."""


def check_sites(profile: Profile, notes: Notes, parties: Collection[str] | None, lost: Collection[str]) -> None:
    """Note what is wrong with sites, nodes and links. `parties` are the marketplace's, None where it is wrong itself;
    `lost` are the members that have mistakes of form, about which no conclusions are drawn."""
    if "sites" not in lost:
        _placed(profile, notes, parties)
        _names(profile, notes, parties or ())
        _nodes(profile, notes)
        if profile.control is not None:
            notes.known(("control",), "site", profile.control, profile.sites)
    _links(profile, notes, known=None if "sites" in lost else tuple(profile.sites))
    if not {"sites", "links"} & set(lost):
        _reach(profile, notes)


def _placed(profile: Profile, notes: Notes, parties: Collection[str] | None) -> None:
    found: dict[str, str] = {}
    for site in profile.sites.values():
        for index, party in enumerate(site.parties):
            path = ("sites", site.name, "parties", index)
            known = parties is None or notes.known(path, "party", party, parties)
            if known and party in found:
                notes.wrong(path, f"party {party!r} is at site {found[party]!r} already", "keep it at one site")
            found.setdefault(party, site.name)
    for party in parties or () if found else ():
        if party not in found:
            notes.wrong(("sites",), f"party {party!r} is at no site", "add it to the parties of a site")


def _names(profile: Profile, notes: Notes, parties: Iterable[str]) -> None:
    """Note names that would be those of two hosts, or of none: letter case and signs do not tell hosts apart."""
    named: list[tuple[Path, str, str]] = []
    if profile.driver != "processes":
        named = [(("sites",), party, f"party {party!r}") for party in parties]
    named += [
        (("sites", site.name, "nodes", node), node, f"node {node!r} of site {site.name!r}")
        for site in profile.sites.values()
        for node in site.nodes
    ]
    hosts: dict[str, str] = {}
    for path, name, what in named:
        host = host_name(name)
        if "-" in (host[0], host[-1]):
            notes.wrong(path, f"{what} would have the host name {host!r}", "begin and end with a letter or a digit")
        elif host in hosts:
            notes.wrong(path, f"{what} would have the host name of {hosts[host]}", "give each host a name of its own")
        hosts.setdefault(host, what)
    lower: dict[str, str] = {}
    for name in profile.sites:
        if (first := lower.setdefault(name.lower(), name)) != name:
            notes.wrong(("sites", name), f"sites {first!r} and {name!r} differ in letter case only", "rename one")


def _nodes(profile: Profile, notes: Notes) -> None:
    if profile.driver in ("namespaces", "ssh") and not profile.sites:
        notes.wrong(("driver",), f"driver {profile.driver!r} needs sites", "add sites: {here: {parties: […]}}")
    if len(profile.sites) > MOST_SITES:
        notes.wrong(("sites",), f"there are {len(profile.sites)} sites, expected at most {MOST_SITES}")
    for site in profile.sites.values() if profile.driver == "ssh" else ():
        for node in site.nodes.values():
            path = ("sites", site.name, "nodes", node.name)
            if not node.address and not notes.said((*path, "address")):
                hint = "write nodes: {" + node.name + ": {address: …}}"
                notes.wrong(path, f"node {node.name!r} has no address", hint)


def _links(profile: Profile, notes: Notes, known: Collection[str] | None) -> None:
    pairs: dict[frozenset[str], int] = {}
    names: dict[str, int] = {}
    for index, link in enumerate(profile.links):
        path: Path = ("links", index)
        for end, site in enumerate(link.between if known is not None else ()):
            notes.known((*path, "between", end), "site", site, known or ())
        first = pairs.setdefault(frozenset(link.between), index)
        if first != index:
            hint = f"the first is item {first + 1} of links; say it all there"
            notes.wrong(path, f"a second link between {' and '.join(map(repr, link.between))}", hint)
        elif names.setdefault(link.name, index) != index:
            notes.wrong(path, f"two links are called {link.name!r}", "rename a site")
        figures(notes, path, link, link)
        for member in ("forward", "backward"):
            change: Change | None = getattr(link, member)
            if change:
                figures(notes, (*path, member), change, change.of(link))


def figures(notes: Notes, path: Path, said: Direction | Change, whole: Direction) -> None:
    """Note figures past sense among those that are said here; `whole` is with those that are not."""
    if said.delay is not None and said.delay > LONGEST_DELAY:
        hint = "a plain number is in seconds; write 70ms"
        notes.wrong((*path, "delay"), f"found a delay of {said.delay}, expected at most {LONGEST_DELAY} one way", hint)
    if said.loss is not None and said.loss >= MOST_LOSS:
        hint = "a plain number is a share of one: write 0.5%; the timeline's action silence loses all"
        notes.wrong((*path, "loss"), f"found a loss of {said.loss * 100:.3g}%, expected less than 50%", hint)
    if said.rate is not None and said.rate < LEAST_RATE:
        hint = "a plain number is in bits a second; write 100mbit"
        notes.wrong((*path, "rate"), f"found a rate of {said.rate}, expected at least {LEAST_RATE}", hint)
    if said.jitter is not None and whole.jitter > whole.delay:
        hint = "packets cannot come before they leave: the delay will be larger on average"
        notes.odd((*path, "jitter"), f"the jitter, {whole.jitter}, is more than the delay, {whole.delay}", hint)


def _reach(profile: Profile, notes: Notes) -> None:
    """Note parties that no path of links leads to from the control site."""
    if len(profile.sites) < 2 or not (profile.links or profile.driver == "namespaces"):  # noqa: PLR2004
        return
    start = profile.control_site
    reached = reachable(profile.links, start) if start in profile.sites else frozenset(profile.sites)
    for site in profile.sites.values():
        if site.name not in reached:
            hint = f"add a link between {site.name!r} and one of {', '.join(map(repr, sorted(reached)[:6]))}"
            for index, party in enumerate(site.parties):
                path = ("sites", site.name, "parties", index)
                notes.wrong(path, f"no path of links leads from site {start!r} to party {party!r}", hint)
            if not site.parties:
                notes.odd(
                    ("sites", site.name), f"no path of links leads from site {start!r} to site {site.name!r}", hint
                )


def reachable(links: Iterable[Link], start: str) -> frozenset[str]:
    """Give the sites that a path of links joins to `start`, itself among them."""
    beside: dict[str, list[str]] = {}
    for one, other in chain.from_iterable((link.between, link.between[::-1]) for link in links):
        beside.setdefault(one, []).append(other)
    found, waiting = {start}, deque([start])
    while waiting:
        new = [site for site in beside.get(waiting.popleft(), ()) if site not in found]
        found.update(new)
        waiting.extend(new)
    return frozenset(found)
