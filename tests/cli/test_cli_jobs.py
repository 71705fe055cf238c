import json

import pytest

from support.commands import FakeApi, dynamos

LISTED = {
    "id": "ann-1", "state": "succeeded", "user": "ann", "providers": ["united"], "submitted": "2026-01-01T10:00:00Z",
    "archetypes": {"united": "computeToData"},
}  # fmt: skip
USAGE = {
    "party": "united", "service": "sql-query", "startMs": 5.0, "wallMs": 20.0, "cpuMs": 9.0, "peakBytes": 2**24,
    "isolation": ["network", "pid"],
}  # fmt: skip
JOB = {
    **LISTED, "request": {"query": "SELECT 1"}, "decision": {"revision": "abc"},
    "providers": {"united": {"outcome": "answered", "archetype": "computeToData", "computeProvider": "united"}},
    "parts": {"united": {"usages": [USAGE]}},
}  # fmt: skip
SPAN = {"span": "a", "parent": "", "unit": "api", "name": "POST", "start_ns": 0, "end_ns": 10**8, "status": "ok"}


@pytest.fixture
def api(monkeypatch):
    return FakeApi(
        {
            "GET /api/v1/jobs": {"jobs": [LISTED]},
            "GET /api/v1/jobs/ann-1": JOB,
            "DELETE /api/v1/jobs/ann-1": {"id": "ann-1", "state": "cancelled"},
            "GET /api/v1/jobs/ann-1/trace": {"job": "ann-1", "trace": "t", "spans": [SPAN]},
        }
    ).install(monkeypatch)


def test_jobs_are_listed(capsys, api):
    out = dynamos(capsys, "jobs", "list").out
    assert "ann-1" in out
    assert "computeToData" in out
    assert json.loads(dynamos(capsys, "jobs", "list", "--format", "json").out) == [LISTED]


def test_a_job_shows_what_each_step_used_and_how_it_was_isolated(capsys, api):
    out = dynamos(capsys, "jobs", "show", "ann-1").out
    for words in ("answered", "sql-query", "16", "network, pid", "SELECT 1"):
        assert words in out


def test_without_an_id_the_newest_job_is_meant(capsys, api):
    assert "ann-1" in dynamos(capsys, "jobs", "show").out
    assert api.asked[0].url.params["limit"] == "1"


def test_cancel_says_what_became_of_it(capsys, api):
    assert dynamos(capsys, "jobs", "cancel", "ann-1").out == "ann-1 is cancelled\n"


def test_trace_draws_the_spans(capsys, api):
    out = dynamos(capsys, "trace", "ann-1").out
    assert "POST" in out
    assert "100.0 ms" in out
    assert json.loads(dynamos(capsys, "trace", "ann-1", "--format", "json").out)["spans"] == [SPAN]


def test_a_job_without_spans_yet_is_told_as_that(capsys, api):
    api.answers["GET /api/v1/jobs/ann-1/trace"] = {"spans": []}
    api.answers["GET /api/v1/jobs/ann-1"] = {**JOB, "parts": {}}
    said = dynamos(capsys, "trace", "ann-1")
    assert said.code == 5
    assert "no trace" in said.err


def test_a_job_that_is_not_there_is_exit_code_5(capsys, api):
    assert dynamos(capsys, "jobs", "show", "bob-2").code == 5
