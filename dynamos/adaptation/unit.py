"""The orchestrator as a unit: with the loop as its adviser."""

from __future__ import annotations

from collections.abc import Callable

from dynamos.adaptation.loops import advise
from dynamos.middleware.configs import OrchestratorConfig
from dynamos.middleware.orchestrator import main


def serve(config: OrchestratorConfig, ready: Callable[[str], None]) -> None:
    """Run the orchestrator until SIGTERM; call `ready` once it takes requests."""
    main.serve(config, ready, advise)
