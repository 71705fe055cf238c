"""One unit as a process: `python -m dynamos.deploy.unit ROLE CONFIG`. Its supervisor runs the same without a new
interpreter."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dynamos.deploy.logs import log_json
from dynamos.deploy.states import explain
from dynamos.kit.errors import BadInput, Broken, DynamosError
from dynamos.middleware.configs import AgentConfig, ApiConfig, HelperConfig, OrchestratorConfig, UnitConfig

logger = logging.getLogger(__name__)

# Each module has `serve(config, ready)`: it works until SIGTERM or SIGINT, and calls `ready` with the address where it
# takes requests once it does.
ROLES: dict[str, tuple[str, type[UnitConfig]]] = {
    "orchestrator": ("dynamos.adaptation.unit", OrchestratorConfig),
    "agent": ("dynamos.middleware.agent.main", AgentConfig),
    "api": ("dynamos.middleware.api.main", ApiConfig),
    "network": ("dynamos.testbed.scopes", HelperConfig),
}


def read_config(role: str, path: Path) -> UnitConfig:
    """Read a unit's configuration. Raises BadInput that names the file."""
    try:
        return ROLES[role][1].model_validate_json(path.read_bytes())
    except KeyError:
        raise BadInput(f"no such role: {role!r}", hint=f"known: {', '.join(ROLES)}") from None
    except OSError as error:
        raise explain(error, path) from error
    except ValidationError as error:
        raise BadInput(str(error), where=str(path)) from None


def run(role: str, path: Path, tell: int) -> int:
    """Run a unit until it ends or is told to (SIGTERM, SIGINT), and give its exit code.

    On the descriptor `tell` it writes one line of JSON: {"address": ...} when it is ready, {"error": ...} if it cannot
    go on.
    """

    def serve() -> None:
        config = read_config(role, path)
        import_module(ROLES[role][0]).serve(config, lambda address="": say(tell, {"address": address}))

    return once(role, serve, tell)


def once(name: str, work: Callable[[], None], tell: int) -> int:
    """Do the work and give its exit code; what goes wrong is logged, and written to `tell` as {"error": ...}."""
    os.umask(0o022)  # the state folder is closed as a whole; what an agent builds for its services, others must read
    log_json()
    try:
        work()
    except DynamosError as error:
        return _give_up(name, tell, error)
    except OSError as error:
        logger.exception("unit.failed", extra={"unit": name})
        return _give_up(name, tell, explain(error, Path(name)))
    except Exception as error:  # the top of the process
        logger.exception("unit.broken", extra={"unit": name})
        return _give_up(name, tell, Broken(f"{type(error).__name__}: {error}"))
    return 0


def say(tell: int, message: dict[str, Any]) -> None:
    """Write one line to whoever started this process; nobody has to listen."""
    try:
        os.write(tell, json.dumps(message).encode() + b"\n")
    except OSError:
        logger.debug("unit.unheard", extra={"line": message})


def _give_up(name: str, tell: int, error: DynamosError) -> int:
    logger.error("unit.gave-up", extra={"unit": name, "error": error.as_dict()})
    say(tell, {"error": {**error.as_dict(), "kind": error.code}})
    return error.exit


def main() -> None:
    """Run a unit from the command line; it says that it is ready on its standard error."""
    if len(sys.argv) != 3:  # noqa: PLR2004
        sys.stderr.write(f"usage: python -m dynamos.deploy.unit {'|'.join(ROLES)} CONFIG\n")
        raise SystemExit(2)
    raise SystemExit(run(sys.argv[1], Path(sys.argv[2]), sys.stderr.fileno()))


if __name__ == "__main__":
    main()
