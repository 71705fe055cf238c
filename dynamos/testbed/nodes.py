"""Nodes: the machines of a testbed's sites."""

from __future__ import annotations

from pathlib import Path

from dynamos.testbed import boxes
from dynamos.testbed.boxes import Box
from dynamos.testbed.containers import Container


class Node(Box):
    """A machine of a site: own network, host name, processes and users; own files over those of this machine."""

    def container(self, name: str) -> Container:
        """Give the container of that name, and make it where there is none."""
        container = self._container(name)
        if not container.alive:
            boxes.make(self.folder, container.folder, name, self.site)
        return container

    def containers(self) -> list[Container]:
        """Give the containers that are there, by name."""
        found = (self._container(folder.name) for folder in sorted(self._containers.glob("*")))
        return [container for container in found if container.alive]

    def destroy(self) -> None:
        """End everything in it, its containers too, and wait until it is gone. Does nothing where it is gone."""
        boxes.remove(self.folder.parent.parent, self.folder, self.name)

    @property
    def _containers(self) -> Path:
        return self.folder / "containers"

    def _container(self, name: str) -> Container:
        return Container(self._containers / name, name, self.site, self.name)


def node_in(folder: Path) -> Node | None:
    """Give the node whose folder it is, None where it is not there."""
    told = boxes.facts(folder)
    node = Node(folder, folder.name, told.get("site", ""))
    return node if told and node.alive else None
