"""Sweeps: whatever a trial or a testbed does, it is kept with its reason, and the rest goes on."""

import os
import threading
import time

import pytest

from dynamos.experiments import lanes, runs
from dynamos.experiments.records import Status
from dynamos.kit.errors import Broken, Conflict, Full, Unavailable
from support.experiments import FakeVenue, cases, script, swept
from support.machine import alive, gone

SETUPS = """
def note(words):
    with open(Path(__file__).parent / "calls", "a") as file:
        print(words, file=file)

@experiment.setup("testbed")
def first(bed, network):
    note(f"testbed {network}")

@experiment.setup("marketplace")
def second(bed, network, rules):
    note(f"marketplace {network} {rules}")
    if rules == "wrong":
        raise ValueError("no such rule")

@experiment.setup("request")
def third(bed, network, rules, rows):
    note("request")
    if rows == 13:
        raise ValueError("unlucky")

@experiment.trial
def trial(bed, network, rules, rows):
    note(f"trial {network} {rules} {rows}")
    return {"total": rows}
"""
NETWORKS = 'Factor("network", ["none", "vxlan"], changes="testbed")'


@pytest.fixture(scope="module")
def misbehaved(tmp_path_factory):
    """A sweep whose trials do everything that trials should not do, and one that does nothing of that."""
    folder = tmp_path_factory.mktemp("misbehaved")
    body = cases(
        fine='print("a word")',
        raises='raise ValueError("on purpose")',
        hangs="(here / 'pid').write_text(str(subprocess.Popen(['sleep', '600']).pid))\ntime.sleep(600)",
        exits="os._exit(3)",
        crashes='print("last words", flush=True)\nos.kill(os.getpid(), 11)',
        leaves="subprocess.Popen(['sleep', '600'], start_new_session=True)",
        skips='bed.skip("no such driver here")',
        undeclared='return {"total": 1, "speed": 2, "mood": "good"}',
        unread="return {}",
        odd='return {"total": "many"}',
        junk="return 5",
    )
    names = [line.split('"')[1] for line in body.splitlines() if "if case ==" in line]
    path = script(folder, body, factors=f'[Factor("case", {names})]', bound='"2s"', warmups="0", repetitions="1")
    made = swept(folder, path)
    made.go()
    return made


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("raises", "trial-raised", "ValueError: on purpose"),
        ("hangs", "timed-out", "longer than 2 s"),
        ("exits", "trial-died", "ended with code 3"),
        ("crashes", "trial-died", "ended by SIGSEGV"),
        ("leaves", "job-failed", "left processes behind: sleep"),
        ("undeclared", "bad-input", "2 mistakes"),
        ("odd", "bad-input", "1 mistake"),
        ("junk", "bad-input", "gave int, no measures"),
    ],
)
def test_a_trial_that_misbehaves_is_kept_as_failed_with_its_reason(misbehaved, case, code, message):
    record = misbehaved.only(case=case)
    assert record.status is Status.FAILED
    assert record.error["code"] == code
    assert message in record.error["message"]


def test_the_others_are_done_and_what_they_print_is_kept(misbehaved):
    fine, unread = misbehaved.only(case="fine"), misbehaved.only(case="unread")
    assert (fine.status, fine.measures, fine.output) == (Status.DONE, {"total": 1}, "a word\n")
    assert (unread.status, unread.measures) == (Status.DONE, {"total": None})
    assert len(misbehaved.records()) == 11


def test_a_trial_that_cannot_be_made_here_is_skipped_with_its_reason(misbehaved):
    record = misbehaved.only(case="skips")
    assert (record.status, record.error["message"]) == (Status.SKIPPED, "no such driver here")


def test_an_error_of_the_script_has_its_line(misbehaved):
    lines = misbehaved.run.script.read_text().splitlines()
    line = 1 + next(at for at, text in enumerate(lines) if "on purpose" in text)
    assert misbehaved.only(case="raises").error["where"] == f"script.py:{line}"


def test_every_measure_that_was_not_declared_is_named(misbehaved):
    told = misbehaved.only(case="undeclared").error["mistakes"]
    assert [each["where"] for each in told] == ["speed", "mood"]


def test_the_last_words_of_a_trial_that_died_are_kept(misbehaved):
    record = misbehaved.only(case="crashes")
    assert "last words" in record.output


def test_what_a_hanging_trial_started_has_ended(misbehaved):
    pid = int((misbehaved.run.folder / "pid").read_text())
    gone("what it started", lambda: [pid] if alive(pid) else [])


def test_the_time_left_is_told_and_becomes_nothing(misbehaved):
    left = [progress.left_seconds for progress in misbehaved.told if progress.record]
    assert left[0] > 0
    assert left[-1] == 0
    assert [progress.done for progress in misbehaved.told if progress.record] == list(range(1, 12))


def test_what_is_dear_is_made_only_where_its_level_changes(tmp_path):
    factors = f'[{NETWORKS}, Factor("rules", ["few", "many"], changes="marketplace"), Factor("rows", [1, 2])]'
    path = script(tmp_path, SETUPS, factors=factors, needs='"networks"', repetitions="1", warmups="0")
    made, venue = swept(tmp_path, path), FakeVenue()
    assert all(record.status is Status.DONE for record in made.go(venue))
    calls = (made.run.folder / "calls").read_text().splitlines()
    assert len(venue.opened) == 2
    assert sum(call.startswith("testbed") for call in calls) == 2
    assert sum(call.startswith("marketplace") for call in calls) == 4
    assert calls.count("request") == sum(call.startswith("trial") for call in calls) == 8
    assert calls[0].startswith("testbed")
    assert calls[1].startswith("marketplace")


def test_a_setup_that_fails_costs_only_the_trials_that_need_it(tmp_path):
    factors = f'[{NETWORKS}, Factor("rules", ["few", "wrong"], changes="marketplace"), Factor("rows", [1, 13])]'
    path = script(tmp_path, SETUPS, factors=factors, needs='"networks"', repetitions="1", warmups="0")
    made = swept(tmp_path, path)
    records = made.go()
    done = [record.cell for record in records if record.status is Status.DONE]
    assert done == [cell for cell in (r.cell for r in records) if cell["rules"] == "few" and cell["rows"] == 1]
    assert {record.error["where"].split(":")[0] for record in records if record.error} == {"script.py"}
    calls = (made.run.folder / "calls").read_text().splitlines()
    assert sum("wrong" in call for call in calls) == 2  # once on each testbed, not once for each trial


def test_a_testbed_that_cannot_come_up_costs_its_trials_without_trying_each(tmp_path):
    path = script(
        tmp_path,
        "\n@experiment.trial\ndef trial(bed, network, rows):\n    return {'total': rows}\n",
        factors=f'[{NETWORKS}, Factor("rows", [1, 2, 3])]', needs='"networks"', repetitions="1",
    )  # fmt: skip
    for error, status in ((Unavailable("no ipsec here"), Status.SKIPPED), (Broken("what?"), Status.FAILED)):
        folder = tmp_path / status
        made = swept(folder, path)
        first = made.run.plan.trials[0].cell["network"]
        venue = FakeVenue(fails=lambda number, _, error=error: error if number == 1 else None)
        records = made.go(venue)
        assert len(venue.opened) == 2
        assert venue.closed == 1
        lost = [record for record in records if record.cell["network"] == first]
        assert len(lost) == 3
        assert {(record.status, record.error["message"]) for record in lost} == {(status, error.message)}
        assert all(record.status is Status.DONE for record in records if record not in lost)


def test_a_testbed_that_ends_under_a_trial_is_told_and_the_next_trial_gets_another(tmp_path):
    body = cases(bad='raise OSError("the line is dead")', good="pass")
    factors = '[Factor("case", ["good", "bad"])]'
    path = script(tmp_path, body, factors=factors, needs='"networks"', repetitions="2", warmups="0")
    made = swept(tmp_path, path)
    venue = FakeVenue(ends=lambda number: number == 1)
    made.go(venue)
    ended = [record for record in made.records() if record.error and record.error["code"] == "testbed-died"]
    assert len(ended) == 1
    assert "the line is dead" in ended[0].error["message"]
    assert len(venue.opened) == 2
    assert sum(record.status is Status.DONE for record in made.records()) == 2


def test_three_testbeds_in_a_row_that_end_stop_the_sweep_which_goes_on_later(tmp_path):
    body = cases(bad='raise OSError("the line is dead")')
    path = script(tmp_path, body, factors='[Factor("case", ["bad"])]', needs='"networks"', repetitions="5", warmups="0")
    made = swept(tmp_path, path)
    venue = FakeVenue(ends=lambda _: True)
    with pytest.raises(Unavailable, match="3 testbeds in a row"):
        made.go(venue)
    assert (len(venue.opened), venue.closed, len(made.records())) == (lanes.DEATHS, 1, 2)
    assert len(made.go()) == 5


def test_a_state_folder_that_is_somebody_elses_stops_the_sweep(tmp_path):
    made = swept(tmp_path, script(tmp_path, needs='"networks"'))
    with pytest.raises(Conflict, match="another marketplace"):
        made.go(FakeVenue(fails=lambda *_: Conflict("this state is of another marketplace")))
    assert not made.records()


def test_on_a_full_disk_the_sweep_stops_and_nothing_that_was_kept_is_lost(tmp_path, monkeypatch):
    made, whole = swept(tmp_path, script(tmp_path)), os.fsync
    full = threading.Event()

    def fsync(descriptor):
        if full.is_set():
            raise OSError(28, "No space left on device")
        if len(list((made.run.folder / runs.TRIALS).glob("t*.json"))) == 2:
            full.set()
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Full, match="no room left on the disk") as caught:
        made.go()
    assert "--resume" in caught.value.hint
    assert len(made.records()) == 3
    assert not list((made.run.folder / runs.TRIALS).glob(".*"))
    full.clear()
    monkeypatch.undo()
    assert len(made.go()) == 6


def test_a_trial_for_which_there_was_no_room_is_no_datum(tmp_path):
    body = cases(fine="pass", full="if not (here / 'room').exists():\n    raise OSError(28, 'No space left on device')")
    path = script(tmp_path, body, factors='[Factor("case", ["fine", "full"])]', repetitions="1", warmups="0")
    made = swept(tmp_path, path)
    with pytest.raises(Full, match="no room left"):
        made.go()
    assert not [record for record in made.records() if record.cell["case"] == "full"]
    (made.run.folder / "room").touch()
    assert [record.status for record in made.go()] == [Status.DONE] * 2


def test_nobody_else_is_at_the_same_run(tmp_path):
    made = swept(tmp_path, script(tmp_path))
    with made.run.held(), pytest.raises(Conflict, match="somebody is at this run"):
        made.go()
    assert len(made.go()) == 6


def test_trials_that_cannot_disturb_each_other_run_beside_each_other(tmp_path):
    """Each waits until as many others are there as may be: alone it would wait for ever."""
    body = """
    @experiment.trial
    def trial(bed, rows):
        here = Path(__file__).parent / f"meeting-{(rows - 1) // 3}"
        here.mkdir(exist_ok=True)
        (here / str(rows)).touch()
        end = time.monotonic() + 20
        while len(list(here.iterdir())) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        return {"total": len(list(here.iterdir()))}
    """
    path = script(tmp_path, body, factors='[Factor("rows", [1, 2, 3])]', parallel="3", warmups="0", repetitions="1")
    made = swept(tmp_path, path)
    assert [record.measures["total"] for record in made.go()] == [3, 3, 3]
    assert [trial.number for trial in made.run.plan.trials] == [record.number for record in made.run.records()]


def test_beside_each_other_an_error_of_one_lane_stops_them_all(tmp_path, monkeypatch):
    body = cases(quick="pass", slow="time.sleep(600)")
    path = script(tmp_path, body, factors='[Factor("case", ["quick", "slow"])]', parallel="2", warmups="0",
                  repetitions="1", bound='"10m"')  # fmt: skip
    made = swept(tmp_path, path)

    def keep(*_):
        raise Full("no room left on the disk")

    monkeypatch.setattr(runs.Run, "keep", keep)
    began = time.monotonic()
    with pytest.raises(Full):
        made.go()
    assert time.monotonic() - began < 60
    assert not made.records()
