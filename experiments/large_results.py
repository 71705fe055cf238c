#!/usr/bin/env python3
"""Do large results come whole, how fast, and does the memory that they need stay the same?"""

from dynamos.experiments import Experiment, Factor, Measure, peaks, synthetic

MOST_MIB = 400  # the bar that the project set itself: about a ninth of what a fork measured for 250,000 rows
GROWTH_MIB = 128  # what buffers may take more of for more rows, before one must say that memory grows with them

experiment = Experiment(
    "large_results",
    "Do large results come whole, how fast, and does the memory that they need stay the same?",
    profile="bench",
    factors=[
        # A process keeps memory that it once needed: each number of rows gets processes of its own.
        Factor("rows", [50_000, 100_000, 250_000, 1_000_000, 10_000_000], quick=[50_000, 1_000_000], changes="testbed"),
        Factor("archetype", ["computeToData", "dataThroughTtp"]),
    ],
    measures=[
        Measure("total", "s", "from the request to the last row", better="less", main=True),
        Measure("first", "s", "from the request to the first rows", better="less"),
        Measure("rate", "rows/s", "rows over the whole time", better="more"),
        Measure("bytes", "B", "size of the result"),
        Measure("peak", "MiB", "memory of the largest process", better="less"),
        Measure("largest", "word", "which process that was"),
        Measure("services", "MiB", "memory of the largest service", better="less"),
        Measure("plain", "s", "plain DuckDB for the same rows", better="less"),
        Measure("ratio", "ratio", "total beside plain DuckDB", better="less"),
        Measure("exact", "yes/no", "rows and their hash are plain DuckDB's", better="more"),
    ],
    baseline={"archetype": "computeToData"},
    bound="180s",
    typical="3s",
    background="""
A fork of DYNAMOS (neburpoots/DYNAMOS, May and June 2026; kind on WSL2, limits of gRPC raised, one provider, six
columns, median of 10) measured for `dataThroughTtp`, in seconds until the first rows / all rows, and MiB of the whole
cluster at its peak:

| transport | 50,000 rows | 100,000 rows | 250,000 rows | peak |
|---|---|---|---|---|
| as it was: one message | 12.24 | 15.94 | 26.88 | 1,571 / 2,046 / 3,695 |
| batches of 5,000 rows | 7.19 / 7.73 | 6.05 / 7.87 | 5.86 / 12.16 | 1,151 / 1,723 / 1,378 |
| gRPC stream | 6.52 / 7.28 | 7.68 / 9.30 | 6.46 / 12.50 | 1,198 / 1,230 / 1,495 |
| RabbitMQ Streams | 6.92 / 7.81 | 6.74 / 9.39 | 7.01 / 14.76 | 1,161 / 1,436 / 1,715 |

At the default limit 50,000 rows brought no answer in 1,900 s.
""",
    limits=[
        "The peak is that of one process, as the kernel counts resident pages, shared ones too; theirs is a cluster's.",
        "Rows are handed out when the job has ended: until then it may still be revoked. The first come after that.",
        "Whoever asks hashes the rows while they come, on the same machine: that is in the time.",
    ],
)


@experiment.trial
def trial(bed, rows, archetype):
    with peaks.watched(bed) as units:
        answer = bed.ask(synthetic.USER, ["alpha"], synthetic.query(rows), archetype=archetype, keep=False)
    if answer.error:
        raise answer.error
    synthetic.forget(bed, answer)
    truth = synthetic.plain(bed, ["alpha"], rows)
    services = peaks.of_services(answer)
    everything = {**units, **services}
    largest = max(everything, key=everything.get)
    return {
        "total": answer.seconds,
        "first": answer.first_batch,
        "rate": answer.rows / answer.seconds,
        "bytes": sum(result.bytes for result in answer.results),
        "peak": everything[largest],
        "largest": largest,
        "services": max(services.values()),
        "plain": truth.seconds,
        "ratio": answer.seconds / truth.seconds,
        "exact": (answer.rows, answer.digest) == (truth.rows, truth.digest),
    }


@experiment.claim("Every result is whole and right: as many rows as asked for, with the hash of plain DuckDB's")
def exact(trials):
    return trials.all("exact"), "; ".join(trials.not_all("exact")) or f"{len(trials.done)} results compared"


@experiment.claim(f"No process ever needs {MOST_MIB} MiB, whatever the number of rows")
def bounded(trials):
    most = max(trials.values("peak"), default=None)
    return (None if most is None else most < MOST_MIB), f"the most: {most:.0f} MiB" if most else ""


@experiment.claim(f"From the fewest rows to the most, the largest process needs less than {GROWTH_MIB} MiB more")
def flat(trials):
    rows = trials.levels("rows")
    if len(rows) < 2:
        return None, "one number of rows only"
    few, many = (trials.where(rows=level).median("peak") for level in (rows[0], rows[-1]))
    return many - few < GROWTH_MIB, f"median {few:.0f} MiB at {rows[0]:,} rows, {many:.0f} MiB at {rows[-1]:,}"


if __name__ == "__main__":
    experiment.main()
