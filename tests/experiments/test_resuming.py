"""Resuming: a run that was interrupted at any moment goes on without a lost or repeated trial, or says why not."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from dynamos.experiments import runs
from dynamos.experiments.choices import again, unchanged
from dynamos.experiments.records import Status
from dynamos.experiments.runs import Run
from dynamos.kit.errors import BadInput, Conflict, Mistakes, NotFound
from support.commands import dynamos
from support.experiments import BODY, FakeVenue, script, swept
from support.machine import alive, gone

KILLS = 10
STARTS = """
@experiment.trial
def trial(bed, rows):
    here = Path(__file__).parent
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with open(here / "pids", "a") as file:
        print(os.getpid(), child.pid, file=file)
    time.sleep(0.05)
    child.kill()
    child.wait()
    return {"total": rows}
"""


def command(path, *words):
    argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", path, "--runs", path.parent / "runs", *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def run_of(path):
    return runs.find(path.parent / "runs", path.stem)


def wait_for(what, holds, process=None, within=60.0):
    end = time.monotonic() + within
    while not holds():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, what
        time.sleep(0.01)


def pids(run):
    with suppress(FileNotFoundError):
        return [int(pid) for pid in (run.folder / "pids").read_text().split() if alive(int(pid))]
    return []


@pytest.mark.e2e
def test_a_run_that_is_killed_at_ten_moments_is_the_one_that_was_not(tmp_path):
    """Each kill comes a random while after the engine has kept one more record."""
    path = script(tmp_path, STARTS, factors='[Factor("rows", [1, 2, 3, 4])]', repetitions="6")
    dice, killed = random.Random(6), 0
    process = command(path, "--seed", "4")
    wait_for("a run", lambda: list((tmp_path / "runs").glob("tiny/latest/run.json")), process)
    run = run_of(path)
    while killed < KILLS:
        have = len(run.left())
        wait_for("a trial", lambda have=have: len(run.left()) < have, process)
        time.sleep(dice.uniform(0, 0.08))
        process.kill()
        process.communicate()
        killed += 1
        gone("processes of trials", lambda: pids(run))
        process = command(path, "--resume")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "24 trials done, 0 failed, 0 skipped" in out
    records = run.records()
    assert len(run.plan.trials) == 25
    assert [record.trial for record in records] == list(run.plan.trials)
    assert all(record.status is Status.DONE for record in records)
    whole = swept(tmp_path / "whole", path, seed=4).prepared
    assert run.plan == whole.plan
    assert not pids(run)
    assert not list(run.folder.glob(".scratch*"))


def test_ctrl_c_says_how_to_go_on_and_ends_with_130(tmp_path):
    path = script(tmp_path, "\n@experiment.trial\ndef trial(bed, rows):\n    (Path(__file__).parent / 'at').touch()\n"
                  "    time.sleep(600)\n", bound='"20m"', warmups="0")  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        process = command(path)
        try:
            wait_for("a trial", lambda: list((tmp_path / "runs").glob("tiny/latest/at")), process)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        run = run_of(path)
        assert process.returncode == 130, (out, err)
        assert re.sub(r"\s", "", f"dynamos experiment run {run.folder} --resume goes on") in re.sub(r"\s", "", err)
        assert not run.records()
        (run.folder / "at").unlink()


def test_on_a_testbed_that_is_warmed_up_in_the_records_only_one_more_trial_warms_it_up(tmp_path):
    body = BODY.replace("return", "print('at it', file=open(Path(__file__).parent / 'calls', 'a'))\n    return")
    made = swept(tmp_path, script(tmp_path, body, needs='"networks"'))
    venue = FakeVenue()
    made.go(venue)
    assert (made.run.folder / "calls").read_text().count("at it") == len(made.run.plan.trials) == 7
    for trial in made.run.plan.trials[4:]:
        made.run.path(trial).unlink()
    assert len(made.go()) == 6
    assert (made.run.folder / "calls").read_text().count("at it") == 7 + 3 + 1
    assert [record.trial for record in made.run.records()] == list(made.run.plan.trials)


def test_nothing_is_made_where_nothing_is_left(tmp_path):
    made = swept(tmp_path, script(tmp_path))
    made.go()
    venue = FakeVenue()
    made.go(venue)
    assert not venue.opened
    assert venue.closed


@pytest.fixture
def kept(tmp_path):
    """A run that is half done."""
    made = swept(tmp_path, script(tmp_path))
    made.go()
    for trial in made.run.plan.trials[4:]:
        made.run.path(trial).unlink()
    return made


def test_damaged_records_are_all_named_before_anything_runs(kept):
    one, other, third = (kept.run.path(trial) for trial in kept.run.plan.trials[1:4])
    one.write_text(one.read_text()[:40])
    other.write_text(third.read_text())
    with pytest.raises(Mistakes) as caught:
        kept.go()
    told = str(caught.value)
    assert f"{one}: it is damaged" in told
    assert f"{other}: it is the record of another trial" in told
    assert "remove it, and --resume" in told
    one.unlink()
    other.unlink()
    assert len(kept.go()) == 6


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:100], "it is damaged"),
        (lambda _: "[]", "it is damaged"),
        (lambda text: text.replace('"plan"', '"plans"'), "it is damaged: it has no 'plan'"),
        (lambda text: text.replace('"form": 1', '"form": 99'), "the run is of form 99"),
        (lambda text: text.replace('"repetition": 2', '"repetition": 1'), "the digest differs"),
    ],
)
def test_a_run_folder_that_is_damaged_edited_or_of_another_version_is_told(kept, edit, message):
    path = kept.run.folder / runs.RUN
    path.write_text(edit(path.read_text()))
    with pytest.raises(BadInput, match=re.escape(message)) as caught:
        Run.open(kept.run.folder)
    assert caught.value.where == str(path)
    assert caught.value.hint


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(NotFound, match="no run folder"):
        Run.open(tmp_path)


def test_a_script_that_has_changed_since_is_told_with_what_to_do(kept, tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(path.read_text() + "\n# another thought\n")
    with pytest.raises(BadInput, match="changed since: script") as caught:
        unchanged(kept.run, path)
    assert f"dynamos experiment run {kept.run.folder} --resume" in caught.value.hint
    assert again(kept.run).plan.digest == kept.run.plan.digest


def test_a_profile_that_has_changed_since_is_told_and_the_folder_goes_on_with_its_own(tmp_path):
    profile = tmp_path / "own.yaml"
    profile.write_text("name: own\nmarketplace: aviation\n")
    path = script(tmp_path, needs='"networks"', profile=f'"{profile}"')
    made = swept(tmp_path, path)
    unchanged(made.run, path)
    profile.write_text("name: own\nmarketplace: aviation\ndescription: another\n")
    with pytest.raises(BadInput, match="changed since: profile"):
        unchanged(made.run, path)
    profile.unlink()
    assert again(made.run).plan == made.run.plan


def test_a_folder_whose_script_was_edited_is_told(kept):
    kept.run.script.write_text(kept.run.script.read_text() + "\n")
    with pytest.raises(BadInput, match="another plan than it was made with: script changed"):
        again(kept.run)


def test_another_sweep_at_the_same_run_is_refused(kept):
    with kept.run.held(), pytest.raises(Conflict):
        kept.go()


def test_the_command_goes_on_with_the_latest_run_or_with_that_of_a_folder(kept, tmp_path, capsys):
    path, folder = tmp_path / "tiny.py", tmp_path / "runs"
    said = dynamos(capsys, "experiment", "run", path, "--resume", "--repeat", 3, "--runs", folder)
    assert said.code == 2
    assert "made with other repetitions" in said.err
    said = dynamos(capsys, "experiment", "status", "tiny", "--runs", folder, "--format", "json")
    assert (json.loads(said.out)["done"], json.loads(said.out)["left"]) == (4, 3)
    said = dynamos(capsys, "experiment", "run", path, "--resume", "--dry-run", "--runs", folder)
    assert said.code == 0
    assert "3 trials, and 0 to warm up are left" in said.out
    said = dynamos(capsys, "experiment", "run", path, "--resume", "--runs", folder)
    assert said.code == 0, said.err
    assert not kept.run.left()


def test_a_run_folder_is_run_again_with_the_same_plan(kept, tmp_path, capsys):
    (tmp_path / "tiny.py").unlink()
    said = dynamos(capsys, "experiment", "run", kept.run.folder, "--dry-run", "--format", "json")
    assert json.loads(said.out)["digest"] == kept.run.plan.digest
    said = dynamos(capsys, "experiment", "run", kept.run.folder, "--runs", tmp_path / "others")
    assert said.code == 0, said.err
    assert runs.find(tmp_path / "others", "tiny").plan == kept.run.plan


def test_there_is_nothing_to_go_on_with(tmp_path, capsys):
    said = dynamos(capsys, "experiment", "run", script(tmp_path), "--resume", "--runs", tmp_path / "runs")
    assert said.code == 5
    assert "there is no run 'tiny'" in " ".join(said.err.split())
