"""Nodes of a testbed that is up, or of a stack, with what runs on each."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

from dynamos.deploy import inventories
from dynamos.kit.errors import DynamosError

DOCUMENTATION = """
name: dynamos
short_description: Nodes of a testbed or a stack, and the units of DYNAMOS on each
description:
  - Groups are the sites (C(site_NAME)), the parties (C(party_NAME)), and the roles C(control), C(provider), C(compute).
  - The variables of hosts say which units run there, with their configurations.
options:
  plugin:
    description: Marks a file as this plugin's.
    required: true
    choices: [dynamos]
  profile:
    description: The profile, by name or path.
    required: true
    type: str
    env: [{name: DYNAMOS_PROFILE}]
  controller:
    description:
      - The controller's folder. It holds the authority, the issuer of tokens and what is collected.
      - Without C(outputs) it is the state folder of a testbed that is up.
    required: true
    type: path
    env: [{name: DYNAMOS_CONTROLLER}]
  outputs:
    description: A file with the outputs of a stack, from C(pulumi stack output --json).
    type: path
    env: [{name: DYNAMOS_OUTPUTS}]
  overlay:
    description: Another driver of overlays than the profile's.
    type: str
    choices: [none, vxlan, evpn, wireguard, ipsec, nebula, openvpn, mtls]
    env: [{name: DYNAMOS_OVERLAY}]
"""


class InventoryModule(BaseInventoryPlugin):
    NAME = "dynamos"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith((".dynamos.yml", ".dynamos.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        profile, controller, outputs = (self.get_option(name) for name in ("profile", "controller", "outputs"))
        try:
            overlay = self.get_option("overlay") or ""
            if outputs:
                found = inventories.from_outputs(Path(outputs), profile, Path(controller), overlay=overlay)
            else:
                found = inventories.live(Path(controller), profile, overlay=overlay)
        except DynamosError as error:
            raise AnsibleParserError(str(error)) from None
        for name, value in found.shared.items():
            self.inventory.set_variable("all", name, value)
        for host, variables in found.hosts.items():
            self.inventory.add_host(host)
            for name, value in variables.items():
                self.inventory.set_variable(host, name, value)
        for group, hosts in found.groups.items():
            self.inventory.add_group(group)
            for host in hosts:
                self.inventory.add_child(group, host)
