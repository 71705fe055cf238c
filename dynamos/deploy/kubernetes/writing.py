"""Manifests as files: a folder for a repository and `kubectl apply -k`, with keys and data apart.

namespaces/           first, so that what is private has a place
private/              keys and data, for this machine only: closed to others, and left out of repositories
in-*.yaml, cluster.yaml                everything else, a file for each namespace
kustomization.yaml
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from dynamos.deploy.kubernetes.manifests import Objects
from dynamos.deploy.kubernetes.plans import Manifest
from dynamos.deploy.states import explained, private_folder, write_private
from dynamos.kit.errors import Conflict

NAMESPACES, PRIVATE, KUSTOMIZATION = "namespaces", "private", "kustomization.yaml"
MARK = "# Written by `dynamos manifests`.\n"
_CLUSTER = "cluster"


class _Plain(yaml.SafeDumper):
    """Writes nothing as a reference to something above."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def text_of(manifests: Iterable[Manifest]) -> str:
    """Give manifests as one text of YAML."""
    return "".join(f"---\n{yaml.dump(each, Dumper=_Plain, sort_keys=False, width=120)}" for each in manifests)


def write(objects: Objects, folder: Path) -> list[Path]:
    """Write everything into a folder, and give the files. What an earlier call wrote and is no more is removed.

    Raises Conflict where the folder holds something else.
    """
    with explained(folder):
        _check(folder)
        private, public = objects.private, objects.public
        spaces = [each for each in public if each["kind"] == "Namespace"]
        rest = _by_namespace(each for each in public if each["kind"] != "Namespace")
        for place in (folder, folder / NAMESPACES):
            place.mkdir(parents=True, exist_ok=True)
        private_folder(folder / PRIVATE)
        texts = {
            folder / NAMESPACES / "namespaces.yaml": text_of(spaces),
            folder / NAMESPACES / KUSTOMIZATION: _kustomization(["namespaces.yaml"]),
            **{folder / f"{name}.yaml": text_of(each) for name, each in rest.items()},
            folder / KUSTOMIZATION: _kustomization([NAMESPACES, *(f"{name}.yaml" for name in rest)]),
        }
        kept = {f"{name}.yaml": text_of(each) for name, each in _by_namespace(private).items()}
        hidden = {
            **{folder / PRIVATE / name: text for name, text in kept.items()},
            folder / PRIVATE / KUSTOMIZATION: _kustomization([f"../{NAMESPACES}", *kept]),
        }
        _forget(folder, {*texts, *hidden})
        write_private(folder / PRIVATE / ".gitignore", "*\n")
        for path, text in hidden.items():
            write_private(path, MARK + text)
        for path, text in texts.items():
            path.write_text(MARK + text, encoding="utf-8")
    return sorted([*texts, *hidden])


def _by_namespace(manifests: Iterable[Manifest]) -> dict[str, list[Manifest]]:
    found: dict[str, list[Manifest]] = {}
    for each in manifests:
        where = each["metadata"].get("namespace")
        found.setdefault(f"in-{where}" if where else _CLUSTER, []).append(each)
    return found


def _kustomization(resources: list[str]) -> str:
    told = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
    return yaml.safe_dump(told, sort_keys=False)


def _check(folder: Path) -> None:
    if not folder.exists():
        return
    ours = folder / KUSTOMIZATION
    if any(folder.iterdir()) and not (ours.is_file() and ours.read_text(encoding="utf-8").startswith(MARK)):
        hint = "name a folder that is empty or not there"
        raise Conflict("the folder holds something else", where=str(folder), hint=hint)


def _forget(folder: Path, wanted: set[Path]) -> None:
    for place in (folder, folder / NAMESPACES, folder / PRIVATE):
        for path in place.glob("*.yaml"):
            if path not in wanted and path.read_text(encoding="utf-8").startswith(MARK):
                path.unlink()
