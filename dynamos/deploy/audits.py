"""The audit stream in files: `python -m dynamos.deploy.audits CONFIG FOLDER`.

The orchestrator runs it, which alone may read the stream. Each unit's own records go to a file of its name: the bus
lets nobody write in another's. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from dynamos.deploy.unit import read_config
from dynamos.kit.errors import DynamosError
from dynamos.knowledge import jetstream
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.knowledge.permissions import API, ORCHESTRATOR, helper_of
from dynamos.middleware.configs import OrchestratorConfig

LIMIT = 100_000
"""How many records of each unit are written, the newest."""


async def write(config: OrchestratorConfig, folder: Path) -> dict[str, int]:
    """Write the records of every unit into `folder`, and give their numbers. Raises what reading the log raises."""
    kb = await jetstream.connect(config.bus, config.credentials, config.name, server=config.server)
    try:
        sites = sorted(set(config.meetings.sites.values())) if config.meetings else []
        units = (ORCHESTRATOR, API, *config.parties, *map(helper_of, sites))
        return {unit: await _write_one(kb, unit, folder / f"{unit}.jsonl") for unit in units}
    finally:
        await kb.close()


async def _write_one(kb: KnowledgeBase, unit: str, path: Path) -> int:
    records = await kb.log("audit").read(f"{unit}.>", limit=LIMIT)
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    await asyncio.to_thread(path.write_text, text, encoding="utf-8")
    return len(records)


def main() -> None:
    """Run from the command line; a mistake is told in one line."""
    os.umask(0o077)
    try:
        config = read_config(ORCHESTRATOR, Path(sys.argv[1]))
        assert isinstance(config, OrchestratorConfig)
        folder = Path(sys.argv[2])
        folder.mkdir(exist_ok=True)
        told = asyncio.run(write(config, folder))
    except DynamosError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit) from None
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
