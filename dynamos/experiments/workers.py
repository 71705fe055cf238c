"""Workers: the process that runs a script's functions, as the engine sees it: bounded, and replaced when it breaks."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from dynamos.deploy.states import explained, tail
from dynamos.kit.errors import DynamosError, JobFailed, TimedOut, revive

START_SECONDS = 60.0
_END_SECONDS = 5.0


class Worker:
    """Runs the functions of one script in a process of its own. It is started when it is first needed."""

    def __init__(self, script: Path, log: Path) -> None:
        self._script = script
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def do(self, order: Mapping[str, Any], *, within: float) -> dict[str, Any]:
        """Have an order done and give what is said of it.

        Raises TimedOut where it takes longer, JobFailed where the process ends; it is gone then with whatever it
        started, and the next order has another one.
        """
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise self._broken(process) from None
        answer = self._answer(process, within)
        if error := answer.get("error"):
            raise revive(error)
        return answer

    def output(self, since: int) -> str:
        """Give the end of what the script printed after that position in the log."""
        with suppress(OSError), self._log.open("rb") as file:
            file.seek(max(since, self._log.stat().st_size - 4096))
            return file.read().decode(errors="replace")
        return ""

    def position(self) -> int:
        """Give the present end of the log."""
        return self._log.stat().st_size if self._log.exists() else 0

    @property
    def runs(self) -> bool:
        """Tell whether there is a process that keeps what the script's functions have put into variables."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Have the process end with all that it started, whoever waits for its answer."""
        if process := self._process:
            process.terminate()

    def end(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()  # its guard ends the rest
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            with suppress(OSError):
                process.stdin.close()
        os.close(self._answers)
        self._read = b""

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process and self.runs:
            return self._process
        self.end()
        self._answers, told = os.pipe()
        try:
            with explained(self._log), self._log.open("ab") as log:
                argv = [sys.executable, "-u", "-m", "dynamos.experiments.performer", str(self._script), str(told)]
                self._process = subprocess.Popen(
                    argv, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(told,), start_new_session=True
                )
        finally:
            os.close(told)
        answer = self._answer(self._process, START_SECONDS)
        if error := answer.get("error"):
            self.end()
            raise revive(error)
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], within: float) -> dict[str, Any]:
        end = time.monotonic() + within
        while b"\n" not in self._read:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                self.end()
                raise TimedOut(f"it took longer than {within:g} s, and was ended", hint="a larger bound, or less work")
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise self._broken(process)
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _broken(self, process: subprocess.Popen[bytes]) -> DynamosError:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        code = process.poll()
        self.end()
        log = tail(self._log, lines=5)
        return JobFailed(f"the process of the trial ended{_manner(code)}", log=log, code="trial-died")


def _manner(code: int | None) -> str:
    """Say how a process ended, by the exit code of its guard."""
    if code is None or code < 0:
        return ""
    with suppress(ValueError):
        return f" by {signal.Signals(code - 128).name}"
    return f" with code {code}"
