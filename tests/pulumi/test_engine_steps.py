"""What the engine tells becomes steps and complaints in the project's words."""

from types import SimpleNamespace

import pytest

from dynamos.deploy.pulumi.steps import Listener


def event(**members):
    names = ("resource_pre_event", "res_outputs_event", "res_op_failed_event", "diagnostic_event", "summary_event")
    return SimpleNamespace(**{name: members.get(name) for name in names})


def of(op, kind="Link", name="a-b", old=None, new=None):
    urn = f"urn:pulumi:s::dynamos::x${kind}::{name}"
    return SimpleNamespace(
        metadata=SimpleNamespace(
            op=op,
            type=f"pulumi-python:dynamic/testbed:{kind}",
            urn=urn,
            old=SimpleNamespace(outputs=old),
            new=SimpleNamespace(inputs=new),
        )
    )


def heard(*events):
    told = []
    listener = Listener(told.append)
    for each in events:
        listener(each)
    return listener, told


def complaint(message, urn="urn:pulumi:s::dynamos::x$Link::a-b", severity="error"):
    return event(diagnostic_event=SimpleNamespace(message=message, urn=urn, severity=severity))


def test_a_step_is_told_as_it_begins_and_as_it_is_done():
    before = {"item": {"mtu": 1500, "forward": {"delay": "70ms", "loss": 0}}, "on": {"a": "1"}, "broken": ""}
    after = {"item": {"mtu": 1500, "forward": {"delay": "30ms", "loss": 0}}, "on": {"a": "2"}}
    change = of("update", old=before, new=after)
    listener, told = heard(event(resource_pre_event=change), event(res_outputs_event=change))
    assert [(str(step), step.phase) for step in told] == [
        ("update link a-b: forward.delay 70ms → 30ms, on", phase) for phase in ("begins", "done")
    ]  # fmt: skip
    assert [step.as_json()["action"] for step in listener.steps] == ["update"]


@pytest.mark.parametrize("op", ["same", "refresh", "read"])
def test_what_changes_nothing_is_no_step(op):
    listener, told = heard(event(resource_pre_event=of(op)))
    assert (listener.steps, told) == ([], [])


def test_complaints_are_told_once_without_noise_and_with_the_name_of_what_they_are_of():
    text = "error: <{%reset%}>Exception calling application: no room<{%reset%}>\n"
    listener, _ = heard(complaint(text), complaint(text), complaint("update failed"), complaint("x", severity="info"))
    assert len(listener.problems) == 1
    assert listener.problems[0].startswith("a-b: ")
    assert listener.problems[0].endswith("no room")


def test_the_summary_counts_by_action():
    listener, _ = heard(event(summary_event=SimpleNamespace(resource_changes={"same": 3, "update": 1})))
    assert listener.counts == {"same": 3, "update": 1}
