"""Data of parties as volumes: a ConfigMap where they are small, a claim that a job fills where they are larger, or a
claim that is there already."""

from __future__ import annotations

import base64
import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamos.deploy.kubernetes.labels import labels, made
from dynamos.deploy.kubernetes.plans import DATA, Manifest, Plan, short
from dynamos.deploy.kubernetes.pods import Seat, Share, container, mount, template
from dynamos.kit.errors import Mistake
from dynamos.model.profiles import Profile

SMALL = 1_000_000
"""Bytes that fit into one ConfigMap."""
CHUNK = 768 * 1024
LARGE = 32 * 2**20
"""Bytes, packed, that may pass through the cluster's own store; more are brought there by whoever has them."""
PACKED = "/packed"
FILL_SECONDS = 300
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_SHARE = Share("20m", "64Mi", "512Mi")


@dataclass(frozen=True, slots=True)
class DataVolume:
    """A party's data: `volume` is what a pod mounts; `private` are the ConfigMaps with the data themselves, `public`
    what is made of them."""

    volume: dict[str, Any]
    private: tuple[Manifest, ...] = ()
    public: tuple[Manifest, ...] = ()


def data_volume(plan: Plan, party: str) -> DataVolume | None:
    """Give the volume with a party's data; None where it has none."""
    if claim := plan.profile.cluster.claims.get(party):
        return DataVolume({"persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    files = plan.data.get(party)
    if not files:
        return None
    name = name_of(files)
    if fits(files):
        return DataVolume({"configMap": {"name": name}}, (_map(plan, party, name, files),))
    chunks = _chunks(pack(files))
    maps = [_map(plan, party, f"{name}-{number}", {f"{number:04}": chunk}) for number, chunk in enumerate(chunks)]
    filled = (_claim(plan, party, name, sum(map(len, files.values()))), _fill(plan, party, name, len(chunks)))
    return DataVolume({"persistentVolumeClaim": {"claimName": name, "readOnly": True}}, tuple(maps), filled)


def name_of(files: Mapping[str, bytes]) -> str:
    """Give the name of what holds these files: other files, another name."""
    return f"data-{short({path: base64.b64encode(text).decode() for path, text in files.items()})}"


def held(profile: Profile, party: str, files: Mapping[str, bytes]) -> tuple[str, str]:
    """Give the names of the claim and of the ConfigMap with a party's data, of which one is empty, or both."""
    if claim := profile.cluster.claims.get(party):
        return claim, ""
    if not files:
        return "", ""
    return ("", name_of(files)) if fits(files) else (name_of(files), "")


def too_large(plan: Plan) -> list[Mistake]:
    """Give the parties whose data are more than a cluster should be given this way."""
    hint = "bring them there in a volume of the party's own, and name it in cluster.claims"
    return [
        Mistake(f"$.cluster.claims.{party}", f"the data of {party!r} are {size / 2**20:.0f} MiB when packed", hint)
        for party, files in plan.data.items()
        if party not in plan.profile.cluster.claims
        and not fits(files)
        and sum(map(len, files.values())) > LARGE
        and (size := len(pack(files))) > LARGE
    ]


def fits(files: Mapping[str, bytes]) -> bool:
    """Tell whether files can be those of one ConfigMap, which has no folders."""
    return sum(map(len, files.values())) <= SMALL and all(map(_KEY.fullmatch, files))


def pack(files: Mapping[str, bytes]) -> bytes:
    """Give files as one archive, the same whenever they are the same."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for path, text in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return packed.getvalue()


def _chunks(packed: bytes) -> list[bytes]:
    return [packed[at : at + CHUNK] for at in range(0, len(packed), CHUNK)]


def _map(plan: Plan, party: str, name: str, files: Mapping[str, bytes]) -> Manifest:
    told = {path: base64.b64encode(text).decode() for path, text in sorted(files.items())}
    label = labels(plan.control, party=party)
    return made("v1", "ConfigMap", name, plan.namespace_of(party), label=label, immutable=True, binaryData=told)


def _claim(plan: Plan, party: str, name: str, size: int) -> Manifest:
    room = max(64 * 2**20, 2 * size)
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": str(room)}}}
    if plan.profile.cluster.storage_class:
        spec["storageClassName"] = plan.profile.cluster.storage_class
    label = labels(plan.control, party=party)
    return made("v1", "PersistentVolumeClaim", name, plan.namespace_of(party), label=label, spec=spec)


def _fill(plan: Plan, party: str, name: str, count: int) -> Manifest:
    seat = Seat(plan.namespace_of(party), "data", party, site=plan.profile.site_of(party))
    mounts = [mount("data", str(DATA)), mount("packed", PACKED, read_only=True)]
    ours = container(
        "data", plan.images.dynamos, _SHARE, mounts,
        command=["python", "-m", "dynamos.deploy.kubernetes.filling"], args=[PACKED, str(DATA)],
    )  # fmt: skip
    sources = [{"configMap": {"name": f"{name}-{number}"}} for number in range(count)]
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": name}},
        {"name": "packed", "projected": {"sources": sources}},
    ]
    spec = {
        "backoffLimit": 4,
        "activeDeadlineSeconds": FILL_SECONDS,
        "template": template(plan, seat, [ours], volumes, again="Never"),
    }
    label = labels(plan.control, role="data", party=party)
    return made("batch/v1", "Job", f"{name}-{short(spec)}", seat.namespace, label=label, spec=spec)
