"""A testbed of a few sleepers: `python -m support.tiny_testbed STATE PROFILE`; the profile's text says what it does."""

import json
import os
import signal
import sys
from pathlib import Path

from dynamos.deploy.logs import log_json
from dynamos.deploy.processes import Patience, Program
from dynamos.deploy.states import StateFolder
from dynamos.deploy.supervisor import Prepared, supervise
from dynamos.kit.errors import BadInput, DynamosError, Full


def sleeper(address):
    def main(tell):
        os.write(tell, json.dumps({"address": address}).encode() + b"\n")
        signal.pause()
        return 0

    return main


def broken(_tell):
    print("cannot find my data")
    return 1


def full(*_):
    raise Full("no room left on the disk")


def prepare(folder, profile):
    text = profile.read_text()
    if "mistake" in text:
        raise BadInput("no such marketplace", where=f"{profile}:1", hint="look again")
    if "full" in text:
        StateFolder.write_status = full  # from now on nothing can be written there
        full()
    for name in ("bus", "united", "api"):
        folder.unit(name).mkdir(parents=True, exist_ok=True)
    agent = broken if "broken" in text else (lambda _: signal.pause()) if "hangs" in text else sleeper("grpc://x")
    return Prepared(
        "tiny",
        (
            Program("bus", "bus", sleeper("nats://x"), folder.unit_log("bus")),
            Program("united", "agent", agent, folder.unit_log("united"), ("bus",)),
            Program("api", "api", sleeper("http://127.0.0.1:1"), folder.unit_log("api"), ("bus",)),
        ),
    )


if __name__ == "__main__":
    log_json()
    try:
        brief = "briefly" in Path(sys.argv[2]).read_text()
        patience = Patience(ready=0.3, tries=1) if brief else Patience()
        supervise(StateFolder(Path(sys.argv[1])), Path(sys.argv[2]), prepare, libraries=(), patience=patience)
    except DynamosError as error:
        sys.exit(error.exit)
