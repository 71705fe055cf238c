"""Inventories: what Ansible is told of a testbed's nodes, as its own YAML inventories say it. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from dynamos.model.profiles import Profile
from dynamos.model.sites import Site, host_name


def inventory(profile: Profile) -> dict[str, Any]:
    """Give the nodes in groups: `site_<site>`, `party_<party>`, and what runs there: `control`, `agents`, `gateways`.

    How a node is reached is not in it: `reached` says so.
    """
    hosts: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[str]] = {"control": [], "gateways": [], "agents": []}
    for site in profile.sites.values():
        names = [host_name(name) for name in site.nodes]
        groups[_group("site", site.name)] = names
        groups["gateways"].append(names[0])
        for name in names:
            hosts[name] = {"dynamos_site": site.name, "dynamos_parties": _parties(site, name)}
        for party in site.parties:
            node = host_name(site.node_of(party).name)
            groups[_group("party", party)] = [node]
            groups["agents"] += [node] if node not in groups["agents"] else []
    control = profile.sites.get(profile.control_site)
    groups["control"] += [host_name(control.gateway.name)] if control else []
    children: dict[str, Any] = {name: {"hosts": {host: {} for host in members}} for name, members in groups.items()}
    told = {"dynamos_testbed": profile.name, "dynamos_driver": profile.driver}
    return {"all": {"hosts": hosts, "vars": told, "children": children}}


def reached(inventory: dict[str, Any], config: str) -> dict[str, Any]:
    """Give the inventory with its nodes reached by ssh as the file `config` says."""
    ways = {
        "ansible_ssh_common_args": f'-F "{config}"',
        "ansible_connection": "ssh",
        "ansible_host_key_checking": True,
        # Two testbeds have nodes of the same names: a connection that is kept must be this one's.
        "ansible_control_path_dir": f"~/.ansible/cp/{hashlib.sha256(config.encode()).hexdigest()[:12]}",
    }
    everybody = inventory["all"]
    return {"all": {**everybody, "vars": {**everybody["vars"], **ways}}}


def _parties(site: Site, node: str) -> list[str]:
    return [party for party in site.parties if host_name(site.node_of(party).name) == node]


def _group(kind: str, name: str) -> str:
    return f"{kind}_{''.join(c if c.isalnum() else '_' for c in name)}"
