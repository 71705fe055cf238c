"""What one life of the API leaves to the next: the results that were promised and not yet fetched or aged.

They are written when the API is restarted, and taken over once. A life that ends by force leaves nothing.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from dynamos.kit.errors import DynamosError
from dynamos.middleware.api.results import Delivery, Phase, Result, Results
from dynamos.model.jobs import Job

log = logging.getLogger(__name__)
FOLDER = "handed"
INDEX = "index.json"


def save(results: Results, folder: Path) -> int:
    """Write every result that is complete, of every job that has ended, and tell how many jobs that were."""
    place = folder / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700, parents=True)
    left = []
    for number, delivery in enumerate(results.all()):
        if delivery.record is None or not delivery.complete or delivery.void or delivery.gone:
            continue
        try:
            left.append(_written(delivery, place, number))
        except (OSError, DynamosError) as error:
            log.warning("results.not-handed job=%s error=%s", delivery.job, error)
    # Last, so that an index is there only with everything that it names.
    (place / INDEX).write_text(json.dumps(left), encoding="utf-8")
    return len(left)


def load(results: Results, folder: Path) -> int:
    """Take over what an earlier life left, and tell how many jobs that were."""
    place = folder / FOLDER
    try:
        left = json.loads((place / INDEX).read_bytes())
    except (OSError, ValueError):
        left = []
    for told in left:
        try:
            _taken(results, place, told)
        except (OSError, ValueError, KeyError, pa.ArrowException, DynamosError) as error:
            log.warning("results.not-taken job=%s error=%s", told.get("job"), error)
    shutil.rmtree(place, ignore_errors=True)
    return len(left)


def _written(delivery: Delivery, place: Path, number: int) -> dict[str, Any]:
    assert delivery.record is not None
    kept = []
    for order, result in enumerate(delivery.results.values()):
        if result.phase is not Phase.COMPLETE:
            continue
        path = place / f"{number}-{order}.arrows"
        with path.open("xb") as file:
            for chunk in result.spool.chunks():
                file.write(chunk)
        kept.append({"name": result.name, "party": result.party, "rows": result.rows, "file": path.name})
    return {
        "job": delivery.job,
        "user": delivery.user,
        "request": delivery.request,
        "took": delivery.took,
        "record": delivery.record.as_json(),
        "results": kept,
    }


def _taken(results: Results, place: Path, told: dict[str, Any]) -> None:
    delivery = Delivery(told["job"], told["user"], told["request"], time.monotonic())
    record = Job.model_validate(told["record"])
    try:
        for each in told["results"]:
            result = Result(each["name"], each["party"], results.store.adopt(place / each["file"]), lambda _: None)
            delivery.results[result.name] = result
            with result.reader() as reader:
                result.schema = reader.schema
            result.rows, result.phase = each["rows"], Phase.COMPLETE
    except BaseException:
        for result in delivery.results.values():
            result.drop()
        raise
    delivery.took = told["took"]
    delivery.submitted.set_result(record)
    delivery.learn(record)
    results.adopt(delivery)
