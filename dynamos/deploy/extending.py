"""Extending: a profile that says only in what it differs from another; every member knows the file that it is from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dynamos.deploy import places
from dynamos.deploy.drafts import open_document
from dynamos.kit.errors import Mistakes, NotFound
from dynamos.model.documents import Document
from dynamos.model.nodes import Node, Unreadable, plain

OWN = ("name", "extends")
"""Members of a profile that those who extend it do not inherit."""


@dataclass(frozen=True, slots=True)
class Layered:
    """A profile's text with all that it extends; `files` are the files, under the names that mistakes give them."""

    document: Document
    files: dict[str, Path]

    def beside(self, *path: str | int) -> Path:
        """Give the folder of the file that says what is at `path`: paths in it are relative to that."""
        return self.files[self.document.file_of(path)].parent


def open_layered(path: Path, shown: str, above: tuple[Path, ...] = ()) -> Layered:
    """Read a profile and what it extends. Mappings are merged, and links by the sites that they join; other lists and
    values replace what they differ from; an empty value removes a member.

    Raises Mistakes where a file cannot be read, is not there, or extends itself.
    """
    path = path.resolve()
    document = open_document(path, shown)
    name = document.at(("extends",))
    if not isinstance(name, str) or not name:
        return Layered(document, {shown: path})
    try:
        base_path = places.profile_file(name, beside=path.parent).resolve()
    except NotFound as error:
        raise Mistakes([document.mistake(("extends",), error.message, error.hint)], subject=shown) from None
    if base_path in (path, *above):
        chain = " extends ".join(each.name for each in (*above, path, base_path))
        message = f"a profile cannot extend itself: {chain}"
        raise Mistakes([document.mistake(("extends",), message, "let one of them stand alone")], subject=shown)
    base = open_layered(base_path, str(base_path), (*above, path))
    inherited = _stamped(base.document.root, base.document.file)
    merged = merge(document.root, _without(inherited, *OWN))
    try:
        value = plain(merged)
    except Unreadable as error:
        mistake = document.mistake(("extends",), f"with what it extends, {error.slip.message}", error.slip.hint)
        raise Mistakes([mistake], subject=shown) from None
    return Layered(replace(document, root=merged, value=value), {**base.files, shown: path})


def merge(node: Node, base: Node) -> Node:
    """Give what a profile says, and what it does not say from the profile that it extends."""
    if not isinstance(node.value, dict) or not isinstance(base.value, dict):
        return node
    removed = {name for name, child in node.value.items() if child.value is None and name in base.value}
    if "sites" in node.value and "links" in base.value:
        base = _unlinked(base, node.value["sites"])
    merged = {name: child for name, child in base.value.items() if name not in removed}
    places_of_keys = {name: base.keys[name] for name in merged}
    for name, child in node.value.items():
        if name not in removed:
            mine = _merge_links if name == "links" else merge
            merged[name] = mine(child, merged[name]) if name in merged else child
            places_of_keys[name] = node.keys[name]
    return Node(merged, node.position, places_of_keys, node.file)


def _merge_links(node: Node, base: Node) -> Node:
    """Merge links that join the same two sites; others are added."""
    if not isinstance(node.value, list) or not isinstance(base.value, list):
        return node
    mine = {_ends(link): link for link in node.value if _ends(link)}
    merged = [
        merge(mine[key], _turned(link, mine[key])) if (key := _ends(link)) in mine else link for link in base.value
    ]
    known = {_ends(link) for link in base.value}
    added = [link for link in node.value if not _ends(link) or _ends(link) not in known]
    return Node([*merged, *added], node.position, {}, node.file)


def _ends(link: Node) -> frozenset[str]:
    """Give the two sites that a link joins, none where it does not say so."""
    ends = _between(link)
    return frozenset(ends) if len(ends) == 2 else frozenset()  # noqa: PLR2004


def _between(link: Node) -> list[str]:
    between = link.value.get("between") if isinstance(link.value, dict) else None
    ends = between.value if between else None
    return [end.value for end in ends if isinstance(end.value, str)] if isinstance(ends, list) else []


def _turned(link: Node, like: Node) -> Node:
    """Give the link as it reads from the other end, where `like` names its sites in the other order."""
    if _between(link) == _between(like):
        return link
    other = {"forward": "backward", "backward": "forward"}
    turned = {other.get(name, name): child for name, child in link.value.items()}
    return replace(link, value=turned, keys={other.get(name, name): place for name, place in link.keys.items()})


def _unlinked(base: Node, sites: Node) -> Node:
    """Give the base without the links of sites that are removed."""
    gone = (
        {name for name, site in sites.value.items() if site.value is None} if isinstance(sites.value, dict) else set()
    )
    links = base.value["links"]
    if not gone or not isinstance(links.value, list):
        return base
    kept = replace(links, value=[link for link in links.value if not gone & _ends(link)])
    return replace(base, value={**base.value, "links": kept})


def _without(node: Node, *names: str) -> Node:
    if not isinstance(node.value, dict):
        return node
    return replace(node, value={name: child for name, child in node.value.items() if name not in names})


def _stamped(node: Node, file: str) -> Node:
    """Give the node with the file that it is from, where it does not say so already."""
    value = node.value
    if isinstance(value, dict):
        value = {name: _stamped(child, file) for name, child in value.items()}
    elif isinstance(value, list):
        value = [_stamped(child, file) for child in value]
    return Node(value, node.position, node.keys, node.file or file)
