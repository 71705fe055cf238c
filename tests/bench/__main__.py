"""`make bench`: latency by stage, throughput and memory, as ratios to plain DuckDB in the same run, and JSON.

Machines are shared and noisy, so every figure is a median with its spread, and ours and plain take turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import memory
from bench.cases import SIZES, USER, Case, Client, Sample, plain

from dynamos.deploy import data
from dynamos.deploy.provisioning import token_for
from dynamos.deploy.states import StateFolder
from dynamos.deploy.testbeds import bring_up, take_down

ROOT = Path(__file__).resolve().parents[2]
TARGETS_MS = {"1k": 120, "30k": 120, "250k": 120}
THREE = ("alpha", "beta", "gamma")


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="dynamos-bench-") as folder:
        state = StateFolder(Path(folder) / "bench")
        files = data.prepare("bench", Path(folder) / "data" / "bench")
        status = bring_up(state, ROOT / "profiles" / "bench.yaml")
        try:
            client = Client(status.api, lambda: token_for(state, USER))
            record = _measure(client, files, status, arguments)
        finally:
            take_down(state)
    target = ROOT / "bench-results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nwritten to {target.relative_to(ROOT)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few repetitions")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--only", choices=["latency", "concurrency", "memory"], action="append")
    found = parser.parse_args()
    if found.quick:
        found.repeat = min(found.repeat, 5)
    return found


def _measure(client: Client, files: dict[str, Path], status: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    wanted = arguments.only or ["latency", "concurrency", "memory"]
    units = [unit.model_dump(mode="json") for unit in status.units]
    record: dict[str, Any] = {"machine": _machine(), "ready_seconds": status.ready_seconds}
    print(f"ready in {status.ready_seconds:.2f} s; {record['machine']}")
    if "latency" in wanted:
        record["latency"] = _latency(client, files, arguments)
    if "concurrency" in wanted:
        record["concurrency"] = _concurrency(client, arguments)
    if "memory" in wanted:
        record["memory"] = _memory(client, units, arguments)
    return record


def _latency(client: Client, files: dict[str, Path], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    sizes = ["1k", "30k", "250k"] if arguments.quick else list(SIZES)
    shapes = [("computeToData", ("alpha",)), ("dataThroughTtp", ("alpha",)), ("dataThroughTtp", ("alpha", "beta"))]
    shapes.append(("dataThroughTtp", THREE))
    cases = [Case(size, archetype, providers) for size in sizes for archetype, providers in shapes]
    print(f"\n{'three-step chain, complete Arrow result':<45} {'plain':>8} {'ours p50':>9} {'spread':>15} "
          f"{'ratio':>6} {'plus':>7}  stages (ms)")  # fmt: skip
    return [_case(client, case, files, arguments.repeat) for case in cases]


def _case(client: Client, case: Case, files: dict[str, Path], repeat: int) -> dict[str, Any]:
    sample = Sample(case)
    count = max(3, repeat // (5 if SIZES[case.size] > 250_000 else 1))
    with plain() as process:
        process.run(case.plain(files), case.rows)
        client.forget(client.result(case)[1])
        for _ in range(count):
            sample.plain.append(process.run(case.plain(files), case.rows))
            seconds, job = client.result(case)
            sample.ours.append(seconds)
            sample.job = client.job(job)
            client.forget(job)
    base, ours = statistics.median(sample.plain), statistics.median(sample.ours)
    stages = {name: round(value, 1) for name, value in sample.job["timings"].items()}
    spread = f"{min(sample.ours) * 1e3:.0f}-{max(sample.ours) * 1e3:.0f}"
    print(f"{case.name:<45} {base * 1e3:>6.0f}ms {ours * 1e3:>7.0f}ms {spread:>13}ms {ours / base:>6.1f} "
          f"{(ours - base) * 1e3:>5.0f}ms  {stages}")  # fmt: skip
    return {
        **asdict(case), "plain": sample.plain, "ours": sample.ours, "ratio": ours / base, "plus_seconds": ours - base,
        "timings": sample.job["timings"], "steps": _steps(sample.job),
    }  # fmt: skip


def _steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    names = ("party", "service", "startMs", "wallMs", "cpuMs", "peakBytes")
    parts = job.get("parts", {}).values()
    return [{name: usage.get(name) for name in names} for part in parts for usage in part.get("usages", ())]


def _concurrency(client: Client, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    case = Case("1k", "computeToData", ("alpha",))
    print("\nthree-step jobs a second, none lost")
    found = []
    for at_once in (1, 2, 4, 8, 16, 32):
        total = max(8, 2 * at_once) if arguments.quick else max(24, 3 * at_once)
        rates = [client.many(case, total=total, at_once=at_once) for _ in range(3)]
        print(f"{at_once:>3} at once: {statistics.median(rates):>6.1f}/s  ({min(rates):.1f}-{max(rates):.1f})")
        found.append({"at_once": at_once, "jobs": total, "per_second": rates})
    return found


def _memory(client: Client, units: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    case = Case("1m" if arguments.quick else "10m", "dataThroughTtp", ("alpha",))
    seconds, job = client.result(case)
    peaks = {name: size / memory.MIB for name, size in memory.of_units(units).items()}
    steps = {
        f"{step['party']}/{step['service']}": (step["peakBytes"] or 0) / memory.MIB for step in _steps(client.job(job))
    }
    print(f"\npeak memory in MiB, {case.name.strip()}, {seconds:.1f} s")
    for name, size in sorted({**peaks, **steps}.items(), key=lambda item: -item[1]):
        print(f"{name:<32} {size:>7.0f}")
    return {"case": asdict(case), "seconds": seconds, "mib": {**peaks, **steps}}


def _machine() -> dict[str, Any]:
    import os  # noqa: PLC0415

    return {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count(),
            "load": os.getloadavg()[0]}  # fmt: skip


if __name__ == "__main__":
    main()
