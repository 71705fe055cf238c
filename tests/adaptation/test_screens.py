"""One decision fits on one screen, however much there was to know."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dynamos.adaptation import screens
from dynamos.adaptation.decisions import Decision, Effect
from dynamos.adaptation.planners import registry
from dynamos.adaptation.situations import Symptom
from support.adaptation import NOW, at, experience, situation

FACTS = {"life": "a", "at": NOW, "number": 1, "seen": 0, "user": "ann", "version": "1", "memory": "m", "revision": "r"}


def decided(situation, planner="load-threshold", **members):
    judgement = registry.make(planner, {})[0].judge(situation)
    return Decision(**FACTS, job=situation.job, planner=planner, situation=situation, judgement=judgement, **members)


def test_it_says_what_was_known_possible_decided_and_came_of_it():
    here = situation(
        at("third"), at("fourth"), loads={"third": 0.9, "fourth": 0.1}, trouble=["third"], stale=["fourth"]
    )
    came = Effect(
        life="a", at=NOW + 1, number=2, job="job-1", state="succeeded", experience=experience(at("fourth"), 0.2)
    )
    text = "\n".join(screens.explain(decided(here, effect=came)))
    for words in (
        "third: load 90% (parts 90 of 100",
        "fourth: load 10%",
        "STALE, not used",
        "symptom overload of third",
        "* dataThroughTtp at fourth",
        "dataThroughTtp at third  overload at third",
        "DECIDED\n  dataThroughTtp at fourth: the lightest without trouble",
        "succeeded at 2027-01-15 08:00:01: 200 ms",
    ):
        assert words in text


def test_what_was_refused_is_told():
    text = "\n".join(screens.explain(decided(situation(at("third")), refused="the planner 'x' raised KeyError")))
    assert "refused: the planner 'x' raised KeyError" in text
    assert "nothing yet" in text


@given(st.integers(1, 60), st.integers(1, 40))
def test_it_never_takes_more_than_a_screen(options, parties):
    names = [f"party-with-a-long-name-{number:040}" for number in range(options)]
    loads = {f"party-{number}": 0.5 for number in range(parties)}
    here = situation(*map(at, names), loads=loads)
    trouble = tuple(Symptom(kind="overload", subject=name, since=NOW, fact="f" * 200) for name in names)
    here = here.model_copy(update={"symptoms": trouble})
    lines = screens.explain(decided(here, refused="x " * 400, effect=None))
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert any("CAME OF IT" in line for line in lines)
