"""Children for the supervisor's tests: forked mains that behave in one known way, and a loop that steps until."""

import json
import os
import signal
import time
from pathlib import Path

from dynamos.deploy.processes import Patience, Processes, Program

HASTE = Patience(ready=5.0, stop=0.2, tries=2, back_off=0.001, longest_back_off=0.01, steady=60.0)


def says_ready(address="", *, then=signal.pause):
    """Give a main that is ready at once and then does `then`."""

    def main(tell):
        os.write(tell, json.dumps({"address": address}).encode() + b"\n")
        then()
        return 0

    return main


def ends(code=0, *, said=None):
    """Give a main that ends at once, after it has told of an error."""

    def main(tell):
        if said:
            os.write(tell, json.dumps({"error": said}).encode() + b"\n")
        print("the last words")
        return code

    return main


def unit(name, main, folder, **more):
    return Program(name=name, role="test", main=main, log=Path(folder) / f"{name}.log", **more)


class Loop:
    """Processes that are stepped until something holds; everything ends with the block."""

    def __init__(self, *programs, patience=HASTE):
        self.changes = 0
        self.processes = Processes(programs, changed=self._changed, patience=patience)

    def _changed(self):
        self.changes += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.processes.close()

    def until(self, holds, *, within=10.0):
        end = time.monotonic() + within
        while not holds():
            assert time.monotonic() < end, f"did not happen; last: {self.processes.statuses}"
            self.processes.step(within=0.05)

    def status(self, name):
        return next(status for status in self.processes.statuses if status.name == name)


def alive(pid):
    """Tell whether the process runs (a zombie does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"
