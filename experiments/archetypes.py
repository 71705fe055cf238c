#!/usr/bin/env python3
"""What does it cost to bring the data to a third party, beside bringing the algorithm to the data?"""

from dynamos.experiments import Experiment, Factor, Measure, peaks, synthetic

# Medians in seconds that others measured for one provider: (rows, archetype). 10,000 to 30,000: the lower ends of the
# thesis's ranges (Stutterheim 2023, MacBook Pro); 50,000 to 250,000: neburpoots/DYNAMOS (2026, kind on WSL2).
THEIRS = {
    (10_000, "computeToData"): 3.17, (10_000, "dataThroughTtp"): 3.99,
    (30_000, "computeToData"): 5.20, (30_000, "dataThroughTtp"): 7.59,
    (100_000, "computeToData"): 9.78, (100_000, "dataThroughTtp"): 15.94,
    (250_000, "computeToData"): 14.02, (250_000, "dataThroughTtp"): 26.88,
}  # fmt: skip

experiment = Experiment(
    "archetypes",
    "What does it cost to bring the data to a third party, beside bringing the algorithm to the data?",
    factors=[
        Factor("profile", ["bench", "three-sites"], quick=["bench"], changes="testbed", title="testbed"),
        Factor("rows", [10_000, 30_000, 100_000, 250_000, 1_000_000], quick=[30_000], title="rows of each provider"),
        Factor("archetype", ["computeToData", "dataThroughTtp"]),
        Factor("providers", [1, 2, 3], quick=[1, 2]),
        Factor("anonymise", [False, True]),
        Factor("aggregate", [False, True],
               when=lambda cell: cell["archetype"] == "dataThroughTtp" and cell["providers"] > 1),
    ],
    measures=[
        Measure("total", "s", "from the request to the last row", better="less", main=True),
        Measure("job", "s", "from the request to the end of the job", better="less"),
        Measure("first", "s", "from the request to the first rows", better="less"),
        Measure("moved", "B", "sent from party to party and to the requestor", better="less"),
        Measure("rows_got", "rows", "rows that came"),
        Measure("exact", "yes/no", "the rows are those of plain DuckDB", better="more"),
        Measure("memory", "MiB", "peaks of all services of the job, added", better="less"),
    ],
    baseline={"archetype": "computeToData"},
    typical="2s",
    background="""
The thesis from which DYNAMOS comes measured one provider, five runs each (Stutterheim 2023; MacBook Pro, 6 cores,
Docker Desktop), and a fork repeated it with more rows (neburpoots/DYNAMOS, 2026; kind on WSL2, median of 10). Seconds:

| rows | `computeToData` | `dataThroughTtp` | source |
|---|---|---|---|
| 10,000 | 3.17-4.14 | 3.99-4.90 | thesis |
| 20,000 | 4.30-5.63 | 5.45-6.84 | thesis |
| 30,000 | 5.20-6.47 | 7.59-8.31 | thesis |
| 50,000 | 8.61 | 12.24-14.30 | fork |
| 100,000 | 9.78 | 15.94-19.50 | fork |
| 250,000 | 14.02 | 26.88-31.89 | fork |

With two providers, results through a third party were in part or wholly missing in 43 of 60 calls before a fix of June
2025, never with both data sets; a fork found rows counted twice when it aggregated them.
""",
    limits=[
        "On `bench` all parties share one machine and no link: only `three-sites` tells what distance costs.",
        "Others measured on other machines with other rows: their figures say what was usual, not what differs.",
    ],
)  # fmt: skip


@experiment.testbed
def testbed(given, **_):
    return synthetic.on_sites_of(given)


@experiment.trial
def trial(bed, rows, archetype, providers, anonymise, aggregate, **_):
    asked = synthetic.PROVIDERS[:providers]
    answer = bed.ask(
        synthetic.USER, asked, synthetic.query(rows), archetype=archetype, anonymize=anonymise,
        aggregate=bool(aggregate), keep=False,
    )  # fmt: skip
    if answer.error:
        raise answer.error
    synthetic.forget(bed, answer)
    truth = synthetic.plain(bed, asked, rows, anonymous=anonymise)
    sent = [each["bytes"] for part in answer.job["parts"].values() for each in part["transfers"]]
    return {
        "total": answer.seconds,
        "job": answer.job_seconds,
        "first": answer.first_batch,
        "moved": sum(sent),
        "rows_got": answer.rows,
        "exact": (answer.rows, answer.digest) == (truth.rows, truth.digest),
        "memory": sum(peaks.of_services(answer).values()),
    }


@experiment.claim("Every answer has exactly the rows that plain DuckDB gives over the union of the providers' files")
def exact(trials):
    wrong = trials.not_all("exact")
    return trials.all("exact"), "; ".join(wrong) or f"{len(trials.done)} answers compared"


@experiment.claim("Nothing is left out: every trial was answered")
def answered(trials):
    return not trials.failed, f"{len(trials.done)} answered, {len(trials.failed)} not"


@experiment.claim("On one machine, one provider's rows take less than a tenth of what others measured on theirs")
def less_than_theirs(trials):
    here = trials.where(profile="bench", providers=1, anonymise=False)
    found = [
        (here.where(rows=rows, archetype=archetype).median("total"), theirs, f"{rows:,} {archetype}")
        for (rows, archetype), theirs in THEIRS.items()
    ]
    found = [each for each in found if each[0] is not None]
    shown = "; ".join(f"{name}: {ours:.2f} s, theirs {theirs:.2f} s" for ours, theirs, name in found)
    return (all(ours < theirs / 10 for ours, theirs, _ in found) if found else None), shown


@experiment.claim("The same rows take longer through a third party than at the data, in three of four pairs at least")
def third_party_costs(trials):
    found, shown = [], []
    for level, some in trials.by("profile"):
        through, at = (some.where(archetype=name) for name in ("dataThroughTtp", "computeToData"))
        pairs = through.where(aggregate=(None, False)).pairs(at, "total", but=("archetype", "aggregate"))
        longer = sum(theirs > ours for theirs, ours in pairs)
        found.append(longer / len(pairs) if len(pairs) >= 20 else None)  # fewer pairs cannot tell
        shown.append(f"{level['profile']}: {longer} of {len(pairs)} pairs")
    return (None if None in found else all(share >= 0.75 for share in found)), "; ".join(shown)


if __name__ == "__main__":
    experiment.main()
