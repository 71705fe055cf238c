"""Overviews: the sites, links and overlays of a testbed that is up, as values that are ready for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dynamos.kit.errors import DynamosError

if TYPE_CHECKING:
    from dynamos.deploy.states import StateFolder
    from dynamos.model.networks import Direction
    from dynamos.testbed.items import Link, Overlay
    from dynamos.testbed.proofs.subjects import Subject

_SHARES = ("loss", "reorder")


def overview(folder: StateFolder, subject: Subject) -> dict[str, Any]:
    """Give sites with their nodes and parties, links as they are now, and overlays, those of jobs under way too."""
    from dynamos.testbed.items import Overlay

    standing = [overlay_facts(each) for each in subject.wanted.of(Overlay).values()]
    passing = [{**overlay_facts(each), "job": job} for job, each in overlays_of_jobs(folder, subject)]
    faults = {"timeline": told} if (told := chronicle_facts(folder)) else {}
    return {"sites": _sites(subject), "links": link_facts(subject), "overlays": [*standing, *passing], **faults}


def chronicle_facts(folder: StateFolder) -> dict[str, Any] | None:
    """Give what of the time line has happened, with the `state` of each fault; None where none has begun."""
    from dynamos.testbed.chronicles import Chronicle

    told = Chronicle(folder.root).read()
    if told is None:
        return None
    return {
        "began": told["began"],
        "faults": [
            {**each, "state": "waits" if "began" not in each else "failed" if "error" in each else "happened"}
            for each in told["faults"]
        ],
    }


def chronicle_rows(told: Mapping[str, Any]) -> list[list[Any]]:
    """Give the rows of a table of faults: planned and real moments in seconds, what it was, what became of it."""
    rows = []
    for each in told["faults"]:
        fault = each["fault"]
        changes = ", ".join(f"{name} {value}" for name, value in fault.get("change", {}).items())
        what = " ".join(filter(None, (fault["action"], fault.get("link") or fault.get("site"), changes)))
        real = [f"{each['began']:.2f} s", f"{each['done'] - each['began']:.2f} s"] if "began" in each else ["", ""]
        rows.append([f"{each['planned']:g} s", *real, what, each.get("error") or each["state"]])
    return rows


def link_facts(subject: Subject) -> list[dict[str, Any]]:
    """Give every link as it is now; `changed` where that is not what the profile says."""
    from dynamos.testbed.items import Link

    declared, by = subject.wanted.of(Link), subject.wan.emulators()
    return [
        {
            "name": name,
            "sites": list(link.sites),
            "state": link.state,
            "changed": link != declared.get(name),
            "by": by[name],
            "mtu": link.mtu,
            "forward": way_facts(link.forward),
            "backward": way_facts(link.backward),
        }
        for name, link in subject.wan.links().items()
    ]


def way_facts(way: Direction) -> dict[str, Any]:
    """Give what a packet meets one way, in the words of a profile."""
    return {
        "delay": str(way.delay),
        "jitter": str(way.jitter) if way.jitter else "",
        "loss": share(way.loss),
        "reorder": share(way.reorder),
        "rate": str(way.rate) if way.rate is not None else "",
        "queue": way.queue,
    }


def share(value: float) -> str:
    """Give a share of one as people write it; nothing where it is none."""
    return f"{value * 100:.3g}%" if value else ""


def overlay_facts(overlay: Overlay) -> dict[str, Any]:
    """Give an overlay with its members' addresses."""
    return {
        "name": overlay.name,
        "driver": overlay.driver,
        "scope": overlay.scope,
        "number": overlay.number,
        "subnet": overlay.subnet,
        "mtu": overlay.mtu,
        "members": {seat.container: seat.address for seat in overlay.seats},
    }


def overlays_of_jobs(folder: StateFolder, subject: Subject) -> Iterator[tuple[str, Overlay]]:
    """Give the overlays of the jobs that are under way, each with its job, as the sites' helpers wrote them down."""
    from pydantic import ValidationError

    from dynamos.middleware.network.messages import Prepare
    from dynamos.testbed.scopes import job_overlay

    seen = set()
    for path in sorted((folder.root / "units").glob("*/networks/request-*.json")):
        try:
            told = Prepare.model_validate_json(path.read_bytes())
            overlay = job_overlay(subject.profile, subject.wanted, told.slot, told.parties)
        except (OSError, ValidationError, DynamosError):
            continue  # it has gone meanwhile
        if told.job not in seen:
            seen.add(told.job)
            yield told.job, overlay


def link_rows(links: list[dict[str, Any]]) -> list[list[str]]:
    """Give the rows of a table of links: one for each, or one for each way where they differ."""
    rows = []
    for link in links:
        ways: list[tuple[str, Mapping[str, Any]]] = [("↔", link["forward"])]
        if link["forward"] != link["backward"]:
            ways = [("→", link["forward"]), ("←", link["backward"])]
        state = link["state"] if link["state"] != "up" else "changed" if link["changed"] else "up"
        for arrow, way in ways:
            cells = [way[name] for name in ("delay", "jitter", "rate", "loss", "reorder", "queue")]
            rows.append([f" {arrow} ".join(link["sites"]), state, *map(str, cells), str(link["mtu"]), link["by"]])
    return rows


LINK_COLUMNS = ("link", "state", "delay", "jitter", "rate", "loss", "reorder", "queue", "mtu", "by")


def _sites(subject: Subject) -> list[dict[str, Any]]:
    from dynamos.testbed.addresses import bare
    from dynamos.testbed.items import Node, Router

    there = {node.name for node in subject.world.nodes()}
    wanted, routers = subject.wanted.of(Node), subject.wanted.of(Router)
    return [
        {
            "name": name,
            "router": bare(routers[name].address),
            "nodes": [
                {"name": node.name, "address": bare(node.address), "up": node.name in there}
                for node in wanted.values()
                if node.site == name
            ],
            "parties": list(site.parties),
            "control": name == subject.profile.control_site,
        }
        for name, site in subject.profile.sites.items()
    ]


def changes(before: Link, after: Link) -> str:
    """Give what has become of a link, in one line."""
    from dynamos.testbed.actions import Change

    return str(Change(before, after)) if before != after else f"{after.name} is so already"
