"""Calibration: costs are found again where they are known, the error is that of requests that were not fitted to."""

from __future__ import annotations

import random

import pytest

from dynamos.adaptation.simulator import recordings
from dynamos.adaptation.simulator.calibration import Recorded, calibrate, fit, line, predict
from dynamos.adaptation.simulator.costs import MEASURED, Line
from dynamos.adaptation.simulator.scenes import AT_DATA, THROUGH
from dynamos.kit.errors import BadInput, NotFound
from support.recordings import run_folder

TRUE = {
    "query": Line(0.05, 2e-6),
    "gather": Line(0.03, 1e-6),
    "algorithm": Line(0.01, 5e-7),
    "answer": Line(0.02, 1e-8),
}


def made(archetype, providers, rows, *, noise=1.0, kind="all", crowd=0.5):
    """A request as it would be recorded if the true costs were these."""
    through = archetype == THROUGH
    slow = 1 + crowd * (providers + through - 1)
    work = (TRUE["gather"] if through else TRUE["query"]).of(rows) * slow * noise
    tail = TRUE["algorithm"].of(rows * providers) * slow * noise if through else 0.0
    size = rows * providers * 49
    last = 0.01 + 0.008 + work + tail
    return Recorded(
        kind=kind, archetype=archetype, providers=providers, rows=rows, bytes=size,
        seconds=last + TRUE["answer"].of(size), began=0.01, start=0.008, work=(work,) * providers, tail=tail, last=last,
    )  # fmt: skip


def recording(spread=0.0, seed=0):
    dice = random.Random(seed)
    return [
        made(archetype, providers, rows, noise=dice.lognormvariate(0, spread))
        for archetype in (AT_DATA, THROUGH)
        for providers in (1, 2)
        for rows in (10_000, 30_000, 100_000, 250_000)
        for _ in range(5)
    ]


def test_known_costs_are_found_again():
    costs = fit(recording())
    for name, true in {**TRUE, "beside": TRUE["gather"]}.items():
        found = getattr(costs, name)
        assert (found.base, found.each) == pytest.approx((true.base, true.each), rel=0.1, abs=3e-3), name
    assert costs.crowd == pytest.approx(0.5, abs=0.06)
    assert costs.start == pytest.approx(0.008)


def test_without_noise_what_was_not_fitted_is_predicted():
    calibration = calibrate(recording())
    assert (calibration.fitted, calibration.predicted) == (40, 40)
    assert calibration.error < 6
    assert calibration.low <= calibration.error <= calibration.high
    assert calibration.noise == pytest.approx(0.0, abs=1e-6)


def test_with_noise_the_error_is_about_the_noise_and_never_hidden():
    calibration = calibrate(recording(spread=0.3))
    assert 5 < calibration.error < 40
    assert calibration.low < calibration.error < calibration.high


def test_the_same_seed_parts_the_same():
    some = recording(spread=0.3)
    assert calibrate(some, seed=4) == calibrate(some, seed=4)
    assert calibrate(some, seed=4).errors != calibrate(some, seed=5).errors


def test_kinds_of_requests_are_fitted_apart():
    slow = [each.model_copy(update={"kind": "slow", "work": tuple(w * 3 for w in each.work)}) for each in recording()]
    longer = [
        each.model_copy(update={"seconds": each.seconds + extra, "last": each.last + extra})
        for each in slow
        if (extra := max(each.work) * 2 / 3)
    ]
    assert calibrate([*recording(), *longer]).error < 6


def test_requests_of_one_archetype_alone_are_enough():
    some = [each for each in recording() if each.archetype == AT_DATA]
    costs = fit(some)
    assert costs.gather == MEASURED.gather
    assert predict(some[:3], costs) == pytest.approx([each.seconds for each in some[:3]], rel=0.05)


def test_too_few_tell_nothing():
    with pytest.raises(BadInput, match="too few"):
        calibrate(recording()[:5])


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0, 1.0), (10, 2.0), (20, 3.0)], (1.0, 0.1)),
        ([(0, 1.0), (10, 2.0), (20, 3.0), (10, 50.0)], (1.0, 0.1)),
        ([(5, 2.0), (10, 2.0)], (2.0, 0.0)),
        ([(5, 3.0), (10, 1.0)], None),
        ([(10, 1.0), (20, 3.0), (30, 5.0)], None),
        ([(3, 0.5)], (0.5, 0.0)),
    ],
)
def test_a_line_lets_nobody_pull_it_and_neither_falls_nor_begins_below_nothing(points, expected):
    found = line(points)
    assert found.base >= 0
    assert found.each >= 0
    if expected is not None:
        assert (found.base, found.each) == pytest.approx(expected, rel=0.02)


def test_the_recording_that_comes_with_it_is_predicted_about_as_well_as_by_its_own_medians():
    calibration = calibrate(recordings.ours())
    assert calibration.predicted >= 40
    assert calibration.error < 1.2 * calibration.noise + 5


def test_a_run_is_read_from_its_tables(tmp_path):
    cell = {"archetype": AT_DATA, "rows": 100, "providers": 1, "anonymise": False}
    run_folder(tmp_path, cells=[cell, {**cell, "anonymise": True}, {**cell, "archetype": THROUGH}])
    first, second = recordings.read(tmp_path)
    assert (first.kind, second.kind) == ("anonymise=yes", "anonymise=no")
    assert (first.archetype, first.rows, first.work, first.tail) == (AT_DATA, 100, (0.2,), 0.0)
    assert (second.archetype, second.parties) == (THROUGH, 2)
    assert (second.began, second.start, second.tail) == pytest.approx((0.02, 0.01, 0.01))


def test_what_is_no_such_run_is_told(tmp_path):
    with pytest.raises(NotFound, match="trials"):
        recordings.read(tmp_path)
    run_folder(tmp_path, cells=[{"archetype": AT_DATA, "rows": 5}] * 3, traced=False)
    with pytest.raises(BadInput, match="no request to calibrate by"):
        recordings.read(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(NotFound, match="no run in"):
        recordings.read(tmp_path)
