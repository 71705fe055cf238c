"""What a cluster of the tests' own needs of this machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from cluster import groups
from dynamos.deploy.packages import FEATURES, lacking
from dynamos.kit.errors import Unavailable

PROGRAMS = Path(__file__).resolve().parents[2] / ".tools" / "kubernetes"
NAMES = (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "etcd",
    "coredns",
)  # fmt: skip
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing(programs: Path = PROGRAMS) -> Unavailable | None:
    """Give why there can be no cluster here, None where there can."""
    if sys.platform != "linux":
        return Unavailable("a cluster of the tests' own needs Linux")
    if os.geteuid() != 0:
        return Unavailable("a cluster of the tests' own needs root")
    if absent := groups.missing():
        told = ", ".join(absent)
        return Unavailable(f"there are no control groups of version 1 for {told}", hint="only these were ever tried")
    feature = next(each for each in FEATURES if each.name == "cluster")
    if packages := lacking(feature, _there):
        return Unavailable(f"missing packages: {', '.join(packages)}", hint="make packages")
    if unbuilt := [name for name in NAMES if not os.access(programs / name, os.X_OK)]:
        return Unavailable(f"not built: {', '.join(unbuilt)}", where=str(programs), hint="make cluster (needs Go)")
    return None


def check_needs(programs: Path = PROGRAMS) -> None:
    """Raises Unavailable where there can be no cluster here."""
    if reason := missing(programs):
        raise reason


def _there(sign: str) -> bool:
    return Path(sign).exists() if sign.startswith("/") else shutil.which(sign, path=_PATH) is not None
