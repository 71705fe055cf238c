"""Containers: what a party's programs run in. A container has its own network, names and files, and no way out of it
until an overlay gives it one."""

from __future__ import annotations

from pathlib import Path

from dynamos.testbed import boxes
from dynamos.testbed.boxes import Box


class Container(Box):
    """A further set of namespaces on a node: own network (a loopback only), processes, host name, /run, /etc/hosts.

    Its files are the node's, as they are; what it writes stays in it. On its node it has a name for
    `ip netns exec NAME` and `ip link set DEV netns NAME`.
    """

    def __init__(self, folder: Path, name: str, site: str, node: str) -> None:
        super().__init__(folder, name, site)
        self._node = node

    @property
    def node(self) -> str:
        """The name of the node that it is on."""
        return self._node

    def destroy(self) -> None:
        """End everything in it and wait until it is gone. Does nothing where it is gone already."""
        boxes.remove(self.folder.parent.parent, self.folder, self.name)
