"""Bills of materials: what is in an image, with versions and hashes, as SPDX 2.3 in JSON. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dynamos.deploy.images.debs import Deb
from dynamos.deploy.images.golang import Module
from dynamos.deploy.images.manifests import Blob, Image
from dynamos.deploy.images.wheels import Wheel
from dynamos.kit.digests import canonical

MEDIA_TYPE = "application/spdx+json"
_CREATED = "1970-01-01T00:00:00Z"
"""A bill is of what is in the image, whose digest it names; when it was written would only make two of them differ."""


@dataclass(frozen=True, slots=True)
class Program:
    """A Go program: the version of Go that built it, and the modules in it, its own first."""

    go: str
    modules: tuple[Module, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image was made from."""

    debs: Sequence[Deb] = ()
    wheels: Sequence[Wheel] = ()
    programs: Sequence[Program] = ()

    def counts(self) -> dict[str, int]:
        """Give how many packages of each kind there are, kinds without any left out."""
        modules = {module.purl for program in self.programs for module in program.modules}
        counts = {"debian": len(self.debs), "python": len(self.wheels), "go": len(modules)}
        return {kind: count for kind, count in counts.items() if count}


def bill(image: Image, contents: Contents) -> Blob:
    """Write the bill of an image."""
    packages = sorted(_packages(contents).values(), key=lambda each: str(each["SPDXID"]))
    own = _package(image.name, image.version, f"pkg:oci/{image.name}@{image.digest.replace(':', '%3A')}")
    own["checksums"] = [{"algorithm": "SHA256", "checksumValue": image.digest.removeprefix("sha256:")}]
    own["primaryPackagePurpose"] = "CONTAINER"
    related = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", own["SPDXID"])]
    related += [_relation(own["SPDXID"], "CONTAINS", each["SPDXID"]) for each in packages]
    told = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{image.name}-{image.version}",
        "documentNamespace": uuid.uuid5(uuid.NAMESPACE_URL, f"dynamos/{image.name}@{image.digest}").urn,
        "creationInfo": {"created": _CREATED, "creators": [f"Tool: dynamos-{image.version}"]},
        "packages": [own, *packages],
        "relationships": related,
    }
    return Blob(MEDIA_TYPE, canonical(told))


def _packages(contents: Contents) -> dict[str, dict[str, Any]]:
    found = [_package(deb.name, deb.version, deb.purl, deb.sha256) for deb in contents.debs]
    found += [_package(wheel.name, wheel.version, wheel.purl, wheel.sha256) for wheel in contents.wheels]
    for program in contents.programs:
        go = program.go.removeprefix("go")
        found.append(_package("stdlib", go, f"pkg:golang/stdlib@{go}"))
        for module in program.modules:
            package = _package(module.path, module.version, module.purl)
            if module.sum:
                package["comment"] = f"go.sum {module.sum}"
            found.append(package)
    return {str(package["SPDXID"]): package for package in found}


def _package(name: str, version: str, purl: str, sha256: str = "") -> dict[str, Any]:
    kind = purl.removeprefix("pkg:").partition("/")[0]
    told: dict[str, Any] = {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", f"{kind}-{name}-{version}").rstrip("-"),
        "name": name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
        ],
    }  # fmt: skip
    if version:
        told["versionInfo"] = version
    if sha256:
        told["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
    return told


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
