"""What a change would do is told as it would be, and nothing changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from dynamos.model.agreements import Agreement
from dynamos.planning.outlooks import Outlook
from dynamos.planning.rehearsals import Past, Running, of_past, of_running
from support.marketplaces import NOW, USER, Scene, request, upstream

NOBODY = Agreement(name="UVA")


def outlook(scene: Scene) -> Outlook:
    return Outlook(scene.engine, scene.agreements, scene.catalogue, scene.landscape(), NOW, "1")


def running(asked, job="job-1", scene=None) -> Running:
    scene = scene or upstream()
    return Running(job=job, request=asked, decision=scene.decide(asked), plan=scene.plan(asked))


def past(asked, job="job-1", party="UVA", scene=None) -> Past:
    return Past(job=job, request=asked, said=(scene or upstream()).decide(asked).providers[party])


def fate(scene: Scene, *jobs: Running):
    found = of_running(jobs, scene.agreements["UVA"], outlook(upstream()))
    return [(each.job, each.effect, each.before, each.after) for each in found]


def test_each_running_job_of_the_party_has_its_own_fate():
    here, through = running(request(("UVA",)), "here"), running(request(archetype="dataThroughTtp"), "through")
    other = running(request(("VU",)), "other")
    only = upstream().agreeing("UVA", allowed_archetypes=("dataThroughTtp",))
    assert fate(only, here, through, other) == [
        ("here", "planned-again", ("computeToData",), ("dataThroughTtp",)),
        ("through", "untouched", ("dataThroughTtp",), ("dataThroughTtp",)),
    ]


def test_what_no_way_is_left_for_would_be_stopped_with_the_reasons():
    (told,) = of_running([running(request(("UVA",)))], NOBODY, outlook(upstream()))
    assert (told.effect, told.after) == ("stopped", ())
    assert told.reasons[0].code == "no-relation"
    assert told.user == USER


def test_a_job_of_which_the_rest_would_run_without_the_party_would_be_planned_again():
    (told,) = of_running([running(request(archetype="dataThroughTtp"))], NOBODY, outlook(upstream()))
    assert (told.effect, told.after) == ("planned-again", ())


def test_the_same_agreement_would_change_nothing():
    jobs = [running(request()), running(request(archetype="dataThroughTtp"))]
    assert {each.effect for each in of_running(jobs, upstream().agreements["UVA"], outlook(upstream()))} == {
        "untouched"
    }


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (upstream(), upstream(), "untouched"),
        (upstream(), upstream().agreeing("UVA", allowed_archetypes=("dataThroughTtp",)), "planned-again"),
        (upstream(), upstream().agreeing("UVA", duties=("sql-anonymize",)), "planned-again"),
        (upstream(), upstream().agreeing("UVA", data_sets=()), "stopped"),
        (upstream(), upstream().agreeing("UVA", valid_until=NOW - timedelta(days=1)), "stopped"),
        (upstream().agreeing("UVA", data_sets=()), upstream(), "allowed"),
        (upstream().agreeing("UVA", data_sets=()), upstream().agreeing("UVA", data_sets=("other",)), "still-refused"),
    ],
)
def test_requests_that_came_would_be_answered_by_the_other_agreement(before, after, effect):
    (told,) = of_past([past(request(), scene=before)], after.agreements["UVA"], outlook(upstream()))
    assert told.effect == effect


def test_a_request_type_that_is_gone_stops_what_came_of_it():
    without = replace(upstream(), request_types={})
    (told,) = of_past([past(request())], upstream().agreements["UVA"], outlook(without))
    assert told.effect == "stopped"
    assert told.reasons[0].code == "request-type"


def test_nothing_is_changed():
    before = outlook(upstream())
    of_running([running(request())], NOBODY, before)
    assert before.agreements["UVA"] == upstream().agreements["UVA"]
