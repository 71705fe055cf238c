"""Logs of units: one JSON object a line, with the event's own keys beside the message."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON: time, level, logger, message, then what was handed in as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        members = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        members |= {key: value for key, value in vars(record).items() if key not in _OWN and key not in members}
        if record.exc_info:
            members["stack"] = self.formatException(record.exc_info)
        return json.dumps(members, default=str, ensure_ascii=False)


def log_json(*, level: int = logging.INFO, path: Path | None = None) -> None:
    """Send every log record of this process to its standard output, or to the end of a file, as lines of JSON."""
    handler = logging.StreamHandler(_opened(path) if path else sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for noisy in ("httpx", "httpcore", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def _opened(path: Path) -> TextIO:
    """Open a log that no object closes: in a forked child its number may be somebody else's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return open(descriptor, "a", encoding="utf-8", buffering=1, closefd=False)
