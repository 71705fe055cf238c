"""Crates: a run folder described for programs and archives, as an RO-Crate 1.1 (https://w3id.org/ro/crate/1.1).

The description is written in place; no file is copied, moved or changed. Nobody is named in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dynamos
from dynamos.deploy.states import explained
from dynamos.experiments import environments
from dynamos.experiments.claims import settle
from dynamos.experiments.factors import written
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.records import Record, Status
from dynamos.experiments.runs import RUN, SCRIPT, Run, write_whole
from dynamos.experiments.scripts import Experiment
from dynamos.kit.errors import Unavailable

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

METADATA: Final = "ro-crate-metadata.json"
SHA256: Final = "https://w3id.org/ro/terms/workflow-run#sha256"
PROCESS: Final = "https://w3id.org/ro/wfrun/process/0.5"
LICENCE: Final = "https://spdx.org/licenses/Apache-2.0"

_FORMATS: Final = {
    ".csv": "text/csv", ".html": "text/html", ".json": "application/json", ".jsonl": "application/jsonl",
    ".log": "text/plain", ".md": "text/markdown", ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf", ".png": "image/png", ".py": "text/x-python", ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
}  # fmt: skip
_FOLDERS: Final = {
    "trials": "One record of each trial, as it ended; warm-ups begin with w",
    "profiles": "The resolved profiles of the testbeds that trials ran on; in bases, those that they were made from",
    "proofs": "What the networks of each testbed were, as measured before its trials",
    "logs": "The ends of the logs of each testbed's units, and what the script printed",
    "plots": "The report's plots",
}
_FILES: Final = {
    RUN: "The plan: every trial in its order, the seed, and what was asked for",
    SCRIPT: "The experiment",
    "columns.json": "What every column of the tables means, with its type and unit (CSVW)",
    "environment.json": "What the run was made with: machine, kernel, versions, policy, and what changed since",
    "report.html": "The report: question, design, figures, claims, limits",
    "trials": "One row a trial, with factors, measures and how it ended",
    "requests": "One row a request of a trial, with what came back",
    "stages": "One row a stage of a request, from its trace",
    "samples": "One row a raw reading behind a measure",
    "events": "One row a fault or amendment that came over a trial, with its moments",
    "usage": "One row a process and trial, with processor time and memory",
}

_OF_FILES: Final[Mapping[str, dict[str, Any]]] = {
    SCRIPT: {"@type": ["File", "SoftwareSourceCode"]},
    "columns.json": {"encodingFormat": "application/csvm+json"},
}


def write(run: Run, experiment: Experiment) -> Path:
    """Describe everything that is in the run folder, and give the file that does.

    Raises Unavailable where the library for it is not installed, Mistakes where records are damaged.
    """
    try:
        from rocrate.rocrate import ROCrate  # noqa: PLC0415  heavy
    except ImportError:
        hint = "pip install 'dynamos[experiments]'"
        raise Unavailable("the library rocrate is not installed", hint=hint) from None
    crate, records = ROCrate(version="1.1"), run.records()
    crate.metadata.extra_terms["sha256"] = SHA256
    files = _add_files(crate, run.folder)
    crate.root_dataset["variableMeasured"] = [_measure(crate, each) for each in experiment.measures]
    script = files[SCRIPT]
    _add_software(crate, run, script)
    action = _add_action(crate, run, experiment, records, files)
    claims = _add_claims(crate, experiment, records)
    _describe(crate, run, experiment)
    crate.root_dataset["mentions"] = [action, *claims]
    path = run.folder / METADATA
    with explained(path):
        write_whole(path, json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False).encode())
    return path


def contents(folder: Path) -> list[Path]:
    """Give every file of a run folder by its path in it, sorted: without hidden ones and links, which are of no use to
    others."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    inside = [path.relative_to(folder) for path in found]
    return sorted(path for path in inside if not any(part.startswith((".", "__pycache__")) for part in path.parts))


def _add_files(crate: ROCrate, folder: Path) -> dict[str, Any]:
    """Add every file, and each folder with the files in it; give the files by their path."""
    added: dict[str, Any] = {}
    for path in contents(folder):
        if path.name == METADATA:
            continue
        with explained(folder / path):
            content = (folder / path).read_bytes()
        told: dict[str, Any] = {
            "name": path.as_posix(),
            "description": _said(path),
            "encodingFormat": _FORMATS.get(path.suffix, "application/octet-stream"),
            "contentSize": str(len(content)),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        told |= _OF_FILES.get(path.as_posix(), {})
        added[path.as_posix()] = crate.add_file(folder / path, path.as_posix(), properties=told)
    for name in dict.fromkeys(path.partition("/")[0] for path in added if "/" in path):
        parts = [{"@id": file.id} for path, file in added.items() if path.startswith(f"{name}/")]
        about = {"name": name, "description": _FOLDERS.get(name, "More of the run"), "hasPart": parts}
        crate.add_dataset(folder / name, f"{name}/", properties=about)
    return added


def _describe(crate: ROCrate, run: Run, experiment: Experiment) -> None:
    """Say of the whole what it is, whose, and under which licence."""
    root, crate.name = crate.root_dataset, f"{experiment.name}, run of {run.created:%Y-%m-%d %H:%M} UTC"
    root["description"] = experiment.question
    crate.datePublished = run.created
    crate.keywords = ", ".join(["DYNAMOS", "experiment", experiment.name, *(each.name for each in experiment.factors)])
    licence = {
        "@type": "CreativeWork",
        "name": "Apache License 2.0",
        "description": "The licence of DYNAMOS; whoever publishes a run may choose another one for it",
    }
    crate.license = _add(crate, LICENCE, licence)
    crate.creator = _add(crate, "#project", {"@type": "Organization", "name": "The DYNAMOS project"})
    process = {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    root["conformsTo"] = _add(crate, PROCESS, process)


def _measure(crate: ROCrate, measure: Any) -> Any:
    told = {"@type": "PropertyValue", "name": measure.name, "description": measure.title or measure.name}
    return _add(crate, f"#measure-{measure.name}", {**told, "unitText": measure.unit})


def _add_software(crate: ROCrate, run: Run, script: Any) -> None:
    """Say what the script is, and the versions of what it ran with."""
    found = environments.read(run) or {}
    commit = found.get("source", {}).get("commit")
    language = {"@type": ["ComputerLanguage", "SoftwareApplication"], "name": "Python"}
    version = found.get("python", {}).get("version")
    others = {**found.get("packages", {}), **found.get("programs", {})}
    needed = [
        _add(crate, f"#software-{name}", {"@type": "SoftwareApplication", "name": name, "softwareVersion": version})
        for name, version in others.items() if name != "dynamos"
    ]  # fmt: skip
    engine = {
        "@type": "SoftwareApplication",
        "name": "DYNAMOS",
        "softwareVersion": others.get("dynamos", dynamos.__version__),
        "softwareRequirements": needed,
    } | ({"version": commit} if commit else {})
    script["programmingLanguage"] = _add(crate, "#python", language | ({"version": version} if version else {}))
    script["softwareRequirements"] = _add(crate, "#dynamos", engine)


def _add_action(
    crate: ROCrate, run: Run, experiment: Experiment, records: Sequence[Record], files: dict[str, Any]
) -> Any:
    """Say how the run was made: the script, out of profiles and levels, gave the tables."""
    began = min((record.began for record in records), default=run.created)
    ended = max((_end(record) for record in records), default=run.created)
    levels = {
        factor.name: list(dict.fromkeys(each.cell[factor.name] for each in run.plan.trials if factor.name in each.cell))
        for factor in experiment.factors
    }
    values = {name: ", ".join(map(written, some)) for name, some in levels.items() if some} | {"seed": run.plan.seed}
    units = {factor.name: factor.unit for factor in experiment.factors if factor.unit}
    settings = [
        _add(crate, f"#setting-{name}", {"@type": "PropertyValue", "name": name, "value": value}
             | ({"unitText": units[name]} if name in units else {}))
        for name, value in values.items()
    ]  # fmt: skip
    made = [file for path, file in files.items() if "/" not in path and path not in (SCRIPT, RUN)]
    told = {
        "@type": "CreateAction",
        "name": f"Run of {experiment.name}, plan {run.plan.digest[:12]}",
        "instrument": files[SCRIPT],
        "object": [file for path, file in files.items() if path.startswith("profiles/") or path == RUN] + settings,
        "result": made,
        "startTime": began.isoformat(),
        "endTime": ended.isoformat(),
        "actionStatus": {"@id": f"http://schema.org/{_status(run, records)}"},
        "description": _counted(run, records),
    }
    return _add(crate, "#run", told)


def _add_claims(crate: ROCrate, experiment: Experiment, records: Sequence[Record]) -> Iterator[Any]:
    outcomes = Outcomes.of(records)
    words = {True: "holds", False: "does not hold", None: "cannot be told"}
    for number, claim in enumerate(experiment.claims, 1):
        held, shown = settle(claim, outcomes)
        told = words[held] + (f": {shown}" if shown else "")
        yield _add(crate, f"#claim-{number}", {"@type": "Claim", "name": claim.words, "description": told})


def _add(crate: ROCrate, name: str, told: dict[str, Any]) -> Any:
    from rocrate.model import ContextEntity  # noqa: PLC0415  heavy

    entity = ContextEntity(crate, name, properties={"@type": told["@type"]})
    for key, value in told.items():
        if key != "@type":
            entity[key] = value
    return crate.add(entity)


def _said(path: Path) -> str:
    """Give what a file is, in a few words."""
    if len(path.parts) == 1:
        return _FILES.get(path.name) or _FILES.get(path.stem, "More of the run")
    return _FOLDERS.get(path.parts[0], "More of the run")


def _end(record: Record) -> datetime:
    return record.began + timedelta(seconds=record.seconds)


def _status(run: Run, records: Sequence[Record]) -> str:
    if len(records) < len(run.plan.trials):
        return "ActiveActionStatus"
    done = any(record.status is Status.DONE and not record.warmup for record in records)
    return "CompletedActionStatus" if done else "FailedActionStatus"


def _counted(run: Run, records: Sequence[Record]) -> str:
    counts = [f"{sum(each.status is status for each in records)} {status}" for status in Status]
    return f"{len(run.plan.trials)} trials planned, warm-ups too: {', '.join(counts)}"
