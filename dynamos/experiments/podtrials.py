"""Trials in pods: a chain runs in the cluster that there is; where there is none, the trial is skipped and says why."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from dynamos.experiments.beds import Bed
from dynamos.experiments.chains import Chain, Times
from dynamos.kit.errors import BadInput, NotFound, Refused, Unavailable

RUNNERS: Final = ("kubernetes-cold", "kubernetes-warm", "kubernetes-job")
_ABSENT = (NotFound, BadInput, Refused)
_STATE = ".dynamos"  # as the commands have it
_AWAY = ("pods-unreached", "cluster-away")


def run(bed: Bed, kind: str, chain: Chain, files: Sequence[Path]) -> Times:
    """Run a chain once over these files, by a runner of pods that has run it once before.

    Skips the trial where no cluster is named, nothing of ours can be made in it, or its pods are not reached from here.
    Raises whatever else goes wrong.
    """
    try:
        from dynamos.experiments import podchains, rooms  # noqa: PLC0415  lightkube is an extra
    except ModuleNotFoundError as error:
        bed.skip(f"{error.name} is not installed: it comes with the extra `kubernetes`")
    try:
        place = rooms.Place.of(bed.profile, built(bed), bed.scratch)
    except _ABSENT as error:
        bed.skip(f"no cluster: {error}")
    held = bed.scratch / "data"
    held.mkdir(mode=0o755, exist_ok=True)
    for file in files:
        shutil.copy(file, held)
    try:
        (took,) = podchains.run(kind, replace(chain, data=held), place)
    except (*_ABSENT, Unavailable) as error:
        if isinstance(error, _ABSENT) or error.detail_code in _AWAY:
            bed.skip(str(error))
        raise
    return took


def built(bed: Bed) -> Path:
    """Give the folder where `dynamos images build` has put images, as deployments find it."""
    from dynamos.deploy.kubernetes.examining import images_folder  # noqa: PLC0415  lightkube is an extra

    return images_folder(bed.state.root.parent if bed.state else Path(_STATE))
