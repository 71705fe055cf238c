"""Runs: the folder that holds everything of one sweep, so that others can read it, go on with it, and repeat it.

    script.py            the experiment as it was
    run.json             plan, seed, choices, digest, the version of this form
    profiles/NAME.yaml   each resolved profile, by its digest
    trials/t00001.json   one record of each trial that has ended, warm-ups as w00001.json
    proofs/  logs/  environment.json  and what is made of them: tables, plots, report.html, ro-crate-metadata.json

A record is written whole or not at all, so that a run which was interrupted at any moment goes on without a lost or
repeated trial.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dynamos.deploy.states import explain, explained
from dynamos.experiments.designs import Plan, Trial
from dynamos.experiments.records import Record
from dynamos.kit.errors import BadInput, Conflict, Full, Mistake, Mistakes, NotFound

FORM = 1
"""The version of the folder's form."""
RUNS = "runs"
SCRIPT, RUN = "script.py", "run.json"
RENEW = "restore it, or start a new run; records of trials can still be read in trials/"
REPEAT = "remove it, and --resume repeats that trial"
TRIALS, PROOFS, LOGS, PROFILES, PLOTS = "trials", "proofs", "logs", "profiles", "plots"
BASES = f"{PROFILES}/bases"
"""Profiles as they were found, before a script made something of them."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder with its plan and the choices that led to it."""

    folder: Path
    plan: Plan
    choices: Mapping[str, Any]
    """What was asked for: quick, picks, repetitions, profile, venue; with them the folder alone gives the same plan."""
    created: datetime

    @classmethod
    def create(
        cls, base: Path, plan: Plan, script: Path, choices: Mapping[str, Any], bases: Mapping[str, str] | None = None
    ) -> Run:
        """Make a folder `base`/EXPERIMENT/TIME-DIGEST for a plan, with a link `latest` to it.

        `bases` are the profiles that it begins with, as text by name.
        """
        created = datetime.now(UTC).replace(microsecond=0)
        folder = base / plan.experiment / f"{created:%Y%m%d-%H%M%S}-{plan.digest[:6]}"
        with explained(folder):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                raise Conflict("there is such a run already", where=str(folder), hint="try again in a second") from None
            for name in (TRIALS, PROOFS, LOGS, PROFILES):
                (folder / name).mkdir()
            (folder / BASES).mkdir()
            for name, text in (bases or {}).items():
                write_whole(folder / BASES / f"{name}.yaml", text.encode())
            write_whole(folder / SCRIPT, script.read_bytes())
            told = {
                "form": FORM,
                "created": created.isoformat(),
                "digest": plan.digest,
                "choices": dict(choices),
                "plan": plan.as_dict(),
            }
            write_whole(folder / RUN, json.dumps(told, indent=1, ensure_ascii=False).encode())
            latest = folder.parent / "latest"
            half = folder.parent / f".latest.{os.getpid()}"
            half.symlink_to(folder.name)
            half.replace(latest)
        return cls(folder, plan, dict(choices), created)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Give the run of a folder. Raises NotFound, and BadInput where it is damaged or from another version."""
        path = folder / RUN
        if not path.is_file():
            raise NotFound(f"{folder.name!r} is no run folder", where=str(folder), hint="it has no run.json")
        try:
            told = json.loads(path.read_bytes())
            form = told["form"]
            if form != FORM:
                hint = f"this version reads form {FORM}"
                raise BadInput(f"the run is of form {form!r}", where=str(path), hint=hint)
            plan, created = Plan.of(told["plan"]), datetime.fromisoformat(told["created"])
            choices, digest = dict(told["choices"]), told["digest"]
        except OSError as error:
            raise explain(error, path) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise BadInput(f"it is damaged: {what}", where=str(path), hint=RENEW) from error
        if plan.digest != digest:
            raise BadInput("its plan is not the one that was made: the digest differs", where=str(path), hint=RENEW)
        return cls(folder, plan, choices, created)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process alone. Raises Conflict where somebody else is at it."""
        with explained(self.folder):
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("somebody is at this run already", where=str(self.folder)) from None
            yield
        finally:
            os.close(descriptor)

    @property
    def script(self) -> Path:
        return self.folder / SCRIPT

    @property
    def scratch(self) -> Path:
        """Where trials work; nothing of it stays."""
        return self.folder / ".scratch"

    @property
    def journals(self) -> Path:
        """Where it is kept what a trial has to mend, as long as it has not."""
        return self.folder / ".journals"

    def path(self, trial: Trial) -> Path:
        """Where the record of a trial is, once it has ended."""
        return self.folder / TRIALS / f"{trial.name}.json"

    def keep(self, record: Record) -> None:
        """Write the record of a trial that has ended. Raises Full where there is no room for it."""
        write_whole(self.path(record.trial), record.model_dump_json(by_alias=True, exclude_none=False).encode())

    def left(self) -> list[Trial]:
        """Give the trials that have no record yet, in their order."""
        return [trial for trial in self.plan.trials if not self.path(trial).exists()]

    def records(self) -> list[Record]:
        """Give the records that there are, in the order of the plan. Raises Mistakes that names all damaged ones."""
        found, wrong = [], []
        for trial in self.plan.trials:
            path = self.path(trial)
            try:
                record = Record.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                continue
            except OSError as error:
                raise explain(error, path) from error
            except ValidationError as error:
                wrong.append(Mistake(str(path), f"it is damaged: {error.errors()[0]['msg']}", REPEAT))
                continue
            if record.trial == trial:
                found.append(record)
            else:
                wrong.append(Mistake(str(path), "it is the record of another trial", REPEAT))
        if wrong:
            raise Mistakes(wrong, subject=f"the run {self.folder.name}")
        return found


def find(base: Path, name: str) -> Run:
    """Give a run by its folder, or the latest of an experiment of that name, or one whose folder's name begins so."""
    folder = Path(name)
    if (folder / RUN).is_file():
        return Run.open(folder)
    if (base / name / "latest").exists():
        return Run.open((base / name / "latest").resolve())
    fitting = [each.parent for each in base.glob(f"*/{name}*/{RUN}") if each.parent.name != "latest"]
    if len(fitting) == 1:
        return Run.open(fitting[0])
    known = ", ".join(sorted(each.name for each in base.glob("*") if each.is_dir())) or "none"
    told = f"there are {len(fitting)} runs like {name!r}" if fitting else f"there is no run {name!r}"
    raise NotFound(told, where=str(base), hint=f"experiments that have been run: {known}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that, whatever happens, it is there whole, as before, or not at all. Raises Full."""
    half = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with half.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as error:
        with suppress(OSError):
            half.unlink(missing_ok=True)
        found = explain(error, path)
        if isinstance(found, Full):
            found.hint = "free some space; what was kept before is whole, and --resume goes on from there"
        raise found from error
