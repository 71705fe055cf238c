"""The supervisor of one testbed, as `dynamos up` starts it: `python -m dynamos.deploy.programs STATE PROFILE`.

It holds the lock of the state folder, makes what the units need, imports every library once, and forks the units from
itself, so that starting eight units costs one start of Python. It writes `status.json` at every change, restarts what
dies, and stops all of it in order at SIGTERM. The kernel ends every unit if the supervisor is killed.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from dynamos.deploy.processes import Patience, Processes, Program
from dynamos.deploy.states import Phase, StateFolder, TestbedStatus, born, explain
from dynamos.jobs.zygotes import ONE_THREAD
from dynamos.kit.errors import Broken, Conflict, DynamosError
from dynamos.kit.imports import leave_out_httpx_command

logger = logging.getLogger(__name__)

# Libraries in the order in which they are imported; between two of them the supervisor looks at its children. Programs
# can come after one of them by its name. Each must leave the process with one thread and must not have used it:
# children are forked from what is in memory then.
LIBRARIES = (
    "numpy", "pyarrow", "pyarrow.compute", "pyarrow.acero", "pyarrow.flight", "duckdb", "sqlglot",
    "dateutil.relativedelta", "dynamos.services.sql_query", "dynamos.services.sql_anonymize",
    "dynamos.services.sql_aggregate", "dynamos.services.sql_algorithm", "dynamos.services.sql_graph", "joserfc.jws",
    "nats", "opentelemetry.sdk.trace", "dynamos.testbed.scopes", "dynamos.middleware.agent.main",
    "dynamos.middleware.orchestrator.main", "dynamos.adaptation.unit", "httpx",
    "fastapi", "uvicorn", "dynamos.middleware.api.main",
)  # fmt: skip


_LOOK_SECONDS = 2.0
"""How often the supervisor looks whether its folder is still there: without it nobody could stop the testbed."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to run, once the folder holds everything that it needs.

    `check` is called every second or two, and raises where what the programs live in has ended; `clear` removes that,
    after they have.
    """

    marketplace: str
    programs: tuple[Program, ...]
    open: bool = False
    check: Callable[[], None] = lambda: None
    clear: Callable[[], None] = lambda: None


Prepare = Callable[[StateFolder, Path], Prepared]
"""Gives the programs of the profile at the path; raises the mistakes of a person."""


class Supervisor:
    """Brings one testbed up, keeps it up, and takes it down. `told` is called with every new status."""

    def __init__(
        self,
        folder: StateFolder,
        profile: Path,
        prepare: Prepare,
        *,
        libraries: tuple[str, ...],
        patience: Patience,
        told: Callable[[TestbedStatus], None],
    ) -> None:
        self._folder = folder
        self._prepare = prepare
        self._libraries = libraries
        self._patience = patience
        self._told = told
        self._began = time.monotonic()
        self._stop_asked = False
        self._processes: Processes | None = None
        self._prepared: Prepared | None = None
        self._status = TestbedStatus(
            testbed=folder.root.name,
            marketplace=folder.root.name,
            profile=str(profile),
            phase=Phase.STARTING,
            supervisor=os.getpid(),
            born=born(os.getpid()),
            started=datetime.now(UTC),
        )

    def run(self) -> None:
        """Stay until asked to stop. Raises the DynamosError for which the testbed could not start."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        self._say(phase=Phase.STARTING)
        try:
            prepared = self._prepared = self._prepare(self._folder, Path(self._status.profile))
            self._say(marketplace=prepared.marketplace, open=prepared.open)
            self._processes = Processes(prepared.programs, changed=self._say, patience=self._patience)
            self._start(self._processes)
            self._stay(self._processes)
        except DynamosError as error:
            self._fail(error)
        except OSError as error:
            self._fail(explain(error, self._folder.root))
        except Exception as error:  # the top of the process
            logger.exception("supervisor.broken")
            self._fail(Broken(f"{type(error).__name__}: {error}"))
        finally:
            if self._processes:
                self._processes.close()

    def _start(self, processes: Processes) -> None:
        """Import the libraries and start the units, each as soon as it can."""
        gc.disable()
        leave_out_httpx_command()
        for name in self._libraries:
            if self._stop_asked:
                return
            import_module(name)
            processes.satisfy(name)
            processes.step(within=0)
        gc.freeze()
        gc.enable()
        while not processes.ready and not self._stop_asked:
            processes.step()
            if processes.failure:
                raise processes.failure
        self._say(
            phase=Phase.READY,
            api=processes.address("api"),
            ready_seconds=round(time.monotonic() - self._began, 3),
        )
        logger.info("testbed.ready", extra={"seconds": self._status.ready_seconds, "api": self._status.api})

    def _stay(self, processes: Processes) -> None:
        while not self._stop_asked:
            processes.step(within=_LOOK_SECONDS)
            if not self._folder.lock.exists():
                logger.warning("testbed.removed", extra={"folder": str(self._folder.root)})
                break
            if self._prepared:
                self._prepared.check()
        logger.info("testbed.stopping")
        self._say(phase=Phase.STOPPING)
        self._end(processes)
        self._say(phase=Phase.STOPPED)
        logger.info("testbed.stopped")

    def _fail(self, error: DynamosError) -> None:
        """Take down what runs, and keep the reason where `dynamos up` and `dynamos status` find it."""
        logger.error("testbed.failed", extra={"error": error.as_dict()})
        facts = {**error.as_dict(), "kind": error.code}
        if self._processes:
            self._say(phase=Phase.STOPPING, error=facts)
            self._end(self._processes)
        self._say(phase=Phase.FAILED, error=facts)
        raise error

    def _end(self, processes: Processes) -> None:
        """Stop the programs, then remove what they lived in."""
        processes.stop()
        if self._prepared:
            self._prepared.clear()

    def _ask_to_stop(self, *_: object) -> None:
        self._stop_asked = True

    def _say(self, **changes: object) -> None:
        """Write the status, with the units as they are now."""
        units = self._processes.statuses if self._processes else ()
        self._status = self._status.model_copy(update={"units": units, **changes})
        try:
            self._folder.write_status(self._status)
        except DynamosError as error:
            # A full disk must not take a running testbed down; the next change tries again.
            logger.error("status.unwritten", extra={"error": error.as_dict()})  # noqa: TRY400
            if self._status.phase == Phase.STARTING:
                raise
        self._told(self._status)


def supervise(
    folder: StateFolder,
    profile: Path,
    prepare: Prepare,
    *,
    libraries: tuple[str, ...] = LIBRARIES,
    patience: Patience | None = None,
    told: Callable[[TestbedStatus], None] = lambda _: None,
) -> None:
    """Bring the testbed up and stay with it until SIGTERM or SIGINT.

    Raises Conflict where another supervisor holds the folder, and what keeps the testbed from starting.
    """
    os.umask(0o077)
    os.environ.update(ONE_THREAD)
    folder.make()
    with folder.held() as mine:
        if not mine:
            raise Conflict(f"the testbed {folder.root.name!r} is up already", where=str(folder.root))
        patience = patience or Patience()
        Supervisor(folder, profile, prepare, libraries=libraries, patience=patience, told=told).run()
