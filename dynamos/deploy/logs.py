"""Logs of units: one JSON object a line, with the event's own keys beside the message."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

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
    handler = logging.FileHandler(path, encoding="utf-8") if path else logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for noisy in ("httpx", "httpcore", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
