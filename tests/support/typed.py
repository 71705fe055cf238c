"""The real command, as a person types it, about testbeds in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamos.deploy.states import StateFolder

COMMAND = [sys.executable, "-m", "dynamos.cli.main"]
ANN = ("--as", "ann@safety-board.example")
SUMS = ("-q", "SELECT origin, dep_delay FROM flights", "-a", "sum", "-c", "group=origin", "-c", "value=dep_delay")


@dataclass(frozen=True)
class Typed:
    """Types commands about the testbeds whose state is in a folder."""

    state: Path

    def __call__(self, *words: object, code: int = 0, within: float = 300.0) -> str:
        """Type a command, and give what it printed."""
        environment = {**os.environ, "DYNAMOS_STATE": str(self.state)}
        environment.pop("DYNAMOS_TOKEN", None)
        argv = [*COMMAND, *map(str, words)]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=within, check=False)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def asked(self, *words: object, code: int = 0) -> Any:
        """Type a command, and give its answer as a value."""
        return json.loads(self(*words, "--format", "json", code=code))

    def folder(self, name: str) -> StateFolder:
        """Give the state folder of a testbed."""
        return StateFolder(self.state / name)
