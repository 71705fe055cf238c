"""What people are told of a step that failed, and which of several failures is the cause."""

from __future__ import annotations

import json
import signal

import pytest

from dynamos.jobs import verdicts
from dynamos.jobs.specs import StepReport
from dynamos.model.plans import Step
from dynamos.model.services import Limits

STEP = Step(id="query", party="UVA", service="sql-query", label="dataProvider")
LIMITS = Limits.model_validate({"memory": "64MiB", "cpu": "10s"})


def exited(status: int, **error: str) -> StepReport:
    return StepReport(status=status << 8, error=json.dumps(error) if error else "", log="so it said\n")


def told(report: StepReport) -> dict[str, object]:
    return verdicts.judge(STEP, report, LIMITS).as_dict()


def test_the_service_speaks_for_itself() -> None:
    report = exited(3, code="no-such-column", message="there is no column 'x'", hint="see the catalogue")
    assert told(report) == {
        "code": "no-such-column",
        "message": "there is no column 'x'",
        "where": "UVA/query",
        "hint": "see the catalogue",
        "exit": 3,
        "log": "so it said",
    }


@pytest.mark.parametrize("rubbish", ["", "{", "[1]", '"text"', '{"code": 7}', '{"code": null, "message": {}}'])
def test_rubbish_for_an_error_is_still_told(rubbish: str) -> None:
    answer = told(StepReport(status=3 << 8, error=rubbish))
    assert answer["where"] == "UVA/query"
    assert answer["message"]
    assert isinstance(answer["code"], str)


@pytest.mark.parametrize(
    ("report", "code", "words"),
    [
        (StepReport(status=9, why="deadline"), "deadline", "deadline"),
        (StepReport(status=9, why="out-of-memory"), "out-of-memory", "64MiB"),
        (StepReport(status=9, why="cpu-limit"), "cpu-limit", "10s"),
        (StepReport(status=signal.SIGXCPU), "cpu-limit", "10s"),
        (StepReport(status=signal.SIGSEGV), "crashed", "SIGSEGV"),
        (StepReport(why="start-failed", log="no such file"), "start-failed", "started"),
        (StepReport(why="lost"), "lost", "keeper"),
        (exited(141), "reader-gone", "reader"),
        (exited(1), "service-failed", "exit code 1"),
    ],
)
def test_every_way_to_fail_has_a_code_and_says_what_it_was(report: StepReport, code: str, words: str) -> None:
    answer = told(report)
    assert answer["code"] == code
    assert words in str(answer["message"])


KILLED = StepReport(status=signal.SIGKILL, why="killed")
READER_GONE = exited(141)
BROKEN_PIPE = StepReport(status=signal.SIGPIPE)
INPUT_BROKEN = exited(7, code="input-broken", message="the input ended")
CRASHED = StepReport(status=signal.SIGSEGV)
FAILED = exited(3, code="no-such-column", message="there is no column 'x'")


@pytest.mark.parametrize("consequence", [KILLED, READER_GONE, BROKEN_PIPE, INPUT_BROKEN])
@pytest.mark.parametrize("cause", [CRASHED, FAILED])
def test_the_cause_is_blamed_whatever_was_seen_first(cause: StepReport, consequence: StepReport) -> None:
    for seen in ([cause, consequence], [consequence, cause]):
        found = verdicts.root_cause([(STEP, report) for report in seen])
        assert found is not None
        assert found[1] is cause


def test_of_two_causes_the_first_is_blamed() -> None:
    found = verdicts.root_cause([(STEP, FAILED), (STEP, CRASHED)])
    assert found is not None
    assert found[1] is FAILED


def test_without_failures_there_is_no_cause() -> None:
    assert verdicts.root_cause([]) is None
