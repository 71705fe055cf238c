#!/usr/bin/env python3
"""How many decisions a second does policy make, how late are the latest, and is every one right?"""

import statistics
import time

from dynamos.experiments import Experiment, Factor, Measure, invented

DECISIONS = 2_000
UNSEEN = 50

experiment = Experiment(
    "policy_scale",
    "How many decisions a second does policy make, how late are the latest, and is every one right?",
    needs="nothing",
    factors=[
        Factor("engine", list(invented.ENGINES)),
        Factor("relations", [100, 2_000, 20_000], quick=[100, 2_000], title="relations in each agreement"),
        Factor("parties", [1, 3, 10], quick=[1, 3], title="providers asked"),
        Factor("tables", [1, 4], title="tables in the query"),
        Factor("columns", [4, 32], quick=[4], title="columns in the query"),
    ],
    measures=[
        Measure("rate", "1/s", "decisions a second", better="more", main=True),
        Measure("median", "ms", "of a decision", better="less"),
        Measure("p99", "ms", "99th percentile of a decision", better="less"),
        Measure("p99_cpu", "ms", "the same in processor time", better="less"),
        Measure("unseen", "ms", "a query that nobody has asked before", better="less"),
        Measure("permitted", "share", "of the providers' answers"),
        Measure("right", "yes/no", "every answer and every reason as generated", better="more"),
    ],
    baseline={"relations": 2_000, "parties": 1},
    typical="1.5s",
    background="""
The original looks at the user and the archetype only, not at request type, data set, tables or columns; a whole
approval took about 20 ms (JSON agreements). Of the forks that reason with eFLINT, one recorded 8.3 s for the clauses
that are allowed, nearly all of it in the reasoner, and another about 1.5 s for each evaluation (2026).

Here every decision names tables and columns that the query really uses, and each refusal its reason. The bar is that
99 of 100 decisions take less than 1 ms with 2,000 relations, in process.
""",
    limits=[
        "Decisions are made one after the other in one process; that each party decides again is left out.",
        "Half of the relations permit; the others refuse for one of five reasons, drawn at random.",
        "A query that was asked before is understood already; `unseen` tells what the first time costs.",
    ],
)


@experiment.trial
def trial(bed, engine, relations, parties, tables, columns):
    made, decides = invented.Invented(parties, relations, tables, columns), invented.ENGINES[engine]
    cases = list(made.cases(DECISIONS))
    made.decide(decides, cases[0].request)
    wall, cpu, answers = [], [], []
    for case in cases:
        began, worked = time.perf_counter(), time.thread_time()
        answers.append(made.decide(decides, case.request))
        cpu.append((time.thread_time() - worked) * 1e3)
        wall.append((time.perf_counter() - began) * 1e3)
    first = []
    for case in cases[:UNSEEN]:
        request = made.unseen(case.request)
        began = time.perf_counter()
        made.decide(decides, request)
        first.append((time.perf_counter() - began) * 1e3)
    bed.sample("decision_ms", *wall[::20])
    return {
        "rate": len(wall) / sum(wall) * 1e3,
        "median": statistics.median(wall),
        "p99": statistics.quantiles(wall, n=100)[98],
        "p99_cpu": statistics.quantiles(cpu, n=100)[98],
        "unseen": statistics.median(first),
        "permitted": sum(len(each.permitted) for each in answers) / len(answers) / parties,
        "right": all(made.right(case, answer) for case, answer in zip(cases, answers, strict=True)),
    }


@experiment.claim("Every decision is right: who permits, who refuses, and for which reason, as it was generated")
def right(trials):
    return trials.all("right"), "; ".join(trials.not_all("right")) or f"{len(trials.done) * DECISIONS:,} compared"


@experiment.claim("99 of 100 decisions over 2,000 relations take one provider less than 1 ms of processor time")
def under_a_millisecond(trials):
    some = trials.where(relations=2_000, parties=1)
    worst = max((cell.median("p99_cpu") for _, cell in some.by("engine", "tables", "columns")), default=None)
    return (None if worst is None else worst < 1), f"the slowest cell: {worst:.2f} ms" if worst else ""


@experiment.claim("A decision's median over the most relations is less than twice that over the fewest")
def does_not_grow(trials):
    levels = trials.levels("relations")
    most, fewest = (trials.where(relations=levels[at]) for at in (-1, 0))
    ratios = [many / few for many, few in most.pairs(fewest, "median", but=("relations",))]
    if len(levels) < 2 or len(ratios) < 5:
        return None, "too few pairs"
    ratio = statistics.median(ratios)
    return ratio < 2, f"{ratio:.2f} times, {levels[-1]:,} beside {levels[0]:,}, median of {len(ratios)} pairs"


if __name__ == "__main__":
    experiment.main()
