#!/usr/bin/env python3
"""What does it cost to bring the data to a third party, beside bringing the algorithm to the data?"""

from dynamos.experiments import Experiment, Factor, Measure

AIRLINES = ("united", "jetblue", "delta")
QUERY = "SELECT origin, dep_delay FROM flights"

experiment = Experiment(
    "archetypes",
    "What does it cost to bring the data to a third party, beside bringing the algorithm to the data?",
    factors=[
        Factor("archetype", ["computeToData", "dataThroughTtp"]),
        Factor("providers", [1, 2], quick=[2]),
    ],
    measures=[
        Measure("total", "s", "from the request to the last row", better="less", main=True),
        Measure("exact", "yes/no", "the sums equal plain DuckDB's"),
    ],
    baseline={"archetype": "computeToData"},
)


@experiment.trial
def trial(bed, archetype, providers):
    asked = AIRLINES[:providers]
    answer = bed.ask(
        "ann@safety-board.example", asked, QUERY, algorithm="sum", columns={"group": "origin", "value": "dep_delay"},
        archetype=archetype, aggregate=archetype == "dataThroughTtp" and providers > 1,
    )  # fmt: skip
    if answer.error:
        raise answer.error
    sums = {}
    for row in answer.table.to_pylist():
        sums[row["origin"]] = sums.get(row["origin"], 0) + int(row["sum_dep_delay"])
    truth = dict(bed.plainly("SELECT origin, sum(dep_delay)::BIGINT FROM flights GROUP BY origin", asked, "flights"))
    return {"total": answer.seconds, "exact": sums == truth}


@experiment.claim("Every sum equals that of plain DuckDB over the union of the files")
def exact(trials):
    return trials.all("exact"), f"{len(trials.done)} answers compared"


if __name__ == "__main__":
    experiment.main()
