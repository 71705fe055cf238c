"""A zygote in a fresh interpreter: `python -m dynamos.jobs <wire> <settings>`. Started by the agent, not by people."""

from __future__ import annotations

import socket
import sys

from dynamos.jobs.guards import guard
from dynamos.jobs.specs import Settings

if __name__ == "__main__":
    guard(Settings.from_json(sys.argv[2]), socket.socket(fileno=int(sys.argv[1])))
