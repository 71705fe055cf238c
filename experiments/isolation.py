#!/usr/bin/env python3
"""Does everything that policy forbids stay out, and what becomes of those who try to get in all the same?"""

from dynamos.experiments import Experiment, Factor, Measure, attacks, weaves
from dynamos.model.networks import Overlay
from dynamos.testbed.overlays.registry import drivers
from dynamos.testbed.proofs.subjects import prove_isolation

VICTIM, THIEF, USER = "united", "jetblue", "ann@safety-board.example"
QUERY = "SELECT origin, dep_delay FROM flights"
GROUPS = {"operations": ["united", "jetblue", "registry"], "safety": ["delta", "weather", "safety-board"]}
PATIENCE = 1.0
EXPECTED = {
    "forbidden way": "blocked",
    "guessed number": "blocked",
    "underlay address": "blocked",
    "replayed grant": "detected",
    "expired grant": "detected",
    "forged grant": "detected",
    "forged certificate": "detected",
    "other account": "detected",
}

experiment = Experiment(
    "isolation",
    "Does everything that policy forbids stay out, and what becomes of those who try to get in all the same?",
    factors=[
        Factor("driver", list(drivers()), quick=["wireguard"], changes="testbed"),
        Factor("scope", ["marketplace", "group", "request"], quick=["request"], changes="testbed"),
        Factor("attack", list(EXPECTED)),
    ],
    measures=[
        Measure("observed", "word", "what became of it", main=True),
        Measure("expected", "word", "what shall become of it"),
        Measure("tries", "count", "tries"),
        Measure("through", "count", "tries that got through though policy forbids them", "less"),
        Measure("shut", "count", "tries that did not get through though policy allows them", "less"),
        Measure("evidence", "word", "by what it was stopped, or what it got"),
    ],
    profile="three-sites",
    repetitions=3,
    quick_repetitions=1,
    warmups=0,
    bound="3m",
    typical="4s",
    background="""
Throughput tests do not find leaks. An outsider who knows the number of a VXLAN is in it, if nothing else stands in the
way; with WireGuard one reaches no remote peer, but does reach the near machine's own overlay address by sending it over
the underlay, as Linux takes an address on any interface. DYNAMOS as published has no rule that keeps one party's job
from another's. Here every container listens and everybody knocks at everybody, before, during and after a job; the
other attacks are those of a party that has turned: it knows what it may know, has a good certificate of its own, and
overhears what comes to itself. `blocked`: nothing got there; `detected`: refused by name; `succeeded`: neither.
""",
    limits=[
        "The attackers know addresses, numbers and certificates, and have no key of another's.",
        "Except who replays, ages or forges a grant: that is the orchestrator's own connection, which no party has.",
        "What is not tried may be open: timing, load, and faults of kernels and libraries are not attacked.",
        "Links have no delay, so that who does not answer within a second is taken not to have got there.",
    ],
)


@experiment.testbed
def shape(base, driver, scope, **_):
    told = {"overlay": Overlay(driver=driver, scope=scope)}
    if scope == "group":
        told["groups"] = weaves.groups_of(GROUPS)
    return weaves.bare(base, delays=False).model_copy(update=told)


@experiment.trial
def trial(bed, attack, **_):
    def ask():
        answer = bed.ask(USER, [VICTIM], QUERY, archetype="dataThroughTtp")
        if answer.error:
            raise answer.error

    if attack == "forbidden way":
        found = prove_isolation(bed.subject)
        wrong = [str(cell) for cell in (*found.leaks, *found.blocked)]
        return {
            "observed": "succeeded" if found.leaks else "blocked", "expected": EXPECTED[attack],
            "tries": len(found.cells), "through": len(found.leaks), "shut": len(found.blocked),
            "evidence": "; ".join(wrong[:3]),
        }  # fmt: skip
    made = {
        "guessed number": lambda: attacks.guessed_number(bed, patience=PATIENCE),
        "underlay address": lambda: attacks.underlay_address(bed, patience=PATIENCE),
        "replayed grant": lambda: attacks.replayed_grant(bed, VICTIM, ask),
        "expired grant": lambda: attacks.expired_grant(bed, VICTIM, ask),
        "forged grant": lambda: attacks.forged_grant(bed, VICTIM, THIEF, ask),
        "forged certificate": lambda: attacks.forged_certificate(bed, VICTIM),
        "other account": lambda: attacks.other_account(bed, VICTIM, THIEF),
    }[attack]()
    return {
        "observed": made.outcome, "expected": EXPECTED[attack], "tries": made.tries, "through": made.through,
        "evidence": made.evidence,
    }  # fmt: skip


@experiment.claim("Nothing came through that policy forbids, and no attack succeeded")
def tight(trials):
    got = [record for record in trials.done if record.measures["observed"] == "succeeded"]
    told = ", ".join(dict.fromkeys(str(record.cell["attack"]) for record in got))
    return not got, told or f"{sum(trials.values('tries')):.0f} tries, {len(trials.done)} attacks"


@experiment.claim("What policy allows did come through")
def open_ways(trials):
    shut = trials.values("shut")
    return (not any(shut), f"{sum(trials.where(attack='forbidden way').values('tries')):.0f} tries") if shut else None


@experiment.claim("Whoever was attacked at its own door said for what it refused")
def told(trials):
    asked = [record for record in trials.done if record.measures["expected"] == "detected"]
    odd = [str(record.cell["attack"]) for record in asked if record.measures["observed"] != "detected"]
    return (not odd, ", ".join(dict.fromkeys(odd)) or f"{len(asked)} attacks") if asked else None


if __name__ == "__main__":
    experiment.main()
