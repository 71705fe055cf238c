"""A load of requests on an API, from the node that it is on: each over a connection of its own, none tried again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from dynamos.testbed.hosts import Completed

STOP, TOLD = "/run/load.stop", "/run/load.json"
PROGRAM = """
import http.client, json, os, sys, threading, time

rate, at_once, stop, told, host, port = float(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6], int(sys.argv[6])
asks = json.load(sys.stdin)
answers, threads = [], []


def ask(number, begin):
    name, path, headers, body = asks[number % len(asks)]
    answer = {"number": number, "name": name, "at": begin, "status": 0, "state": "", "error": ""}
    answers.append(answer)
    connection = http.client.HTTPConnection(host, port, timeout=300)
    try:
        connection.request("POST", path, json.dumps(body), headers)
        told = connection.getresponse()
        answer["status"], text = told.status, told.read()
        body = json.loads(text)
        answer["state"] = body.get("state", "")
        answer["outcomes"] = sorted({each["outcome"] for each in body.get("providers", {}).values()})
        answer["error"] = "" if told.status == 200 else text.decode()[:600]
    except OSError as error:
        answer["error"] = repr(error)
    except http.client.HTTPException as error:
        answer["error"] = repr(error)
    finally:
        answer["seconds"] = time.time() - begin
        connection.close()


number, due = 0, time.time()
while not os.path.exists(stop):
    if sum(thread.is_alive() for thread in threads) >= at_once:
        due = time.time() + 1 / rate
        time.sleep(1 / rate)
        continue
    thread = threading.Thread(target=ask, args=(number, time.time()))
    thread.start()
    threads.append(thread)
    number, due = number + 1, due + 1 / rate
    time.sleep(max(0.0, due - time.time()))
for thread in threads:
    thread.join()
with open(told, "w") as file:
    json.dump(answers, file)
"""
WITHIN = 600.0


class Asker(Protocol):
    """Where a load comes from: a node of a testbed, or the network of a pod."""

    def run(
        self, argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, within: float = 30.0
    ) -> Completed: ...


@dataclass
class Load:
    """What came of a load, once it has ended."""

    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def bad(self) -> list[dict[str, Any]]:
        """The requests that were lost or refused, or brought less than everything."""
        return [
            each
            for each in self.answers
            if (each["status"], each["state"], each.get("outcomes")) != (200, "succeeded", ["answered"])
        ]

    @property
    def longest(self) -> float:
        """The seconds that the slowest answer took."""
        return max(each["seconds"] for each in self.answers)

    def __str__(self) -> str:
        took = sorted(each["seconds"] for each in self.answers)
        middle = took[len(took) // 2]
        return f"{len(took)} requests, {len(self.bad)} bad, p50 {middle:.2f} s, longest {self.longest:.2f} s"


@contextmanager
def load(
    node: Asker,
    asks: list[tuple[str, str, dict[str, str], Any]],
    *,
    rate: float = 5.0,
    at_once: int = 1000,
    at: str = "127.0.0.1:8080",
) -> Iterator[Load]:
    """Ask the API `at` all the time during the block, with no more than `at_once` under way; what came of it is known
    when the block has ended."""
    node.run(["rm", "-f", STOP, TOLD])
    found = Load()
    argv = ["/usr/bin/python3", "-c", PROGRAM, str(rate), str(at_once), STOP, TOLD, *at.split(":")]

    def work() -> None:
        node.run(argv, stdin=json.dumps(asks).encode(), within=WITHIN)

    thread = threading.Thread(target=work, name="load")
    thread.start()
    try:
        yield found
    finally:
        node.run(["touch", STOP])
        thread.join(WITHIN)
    found.answers = json.loads(node.run(["cat", TOLD]).text)


def ask_of(body: Any, token: str) -> tuple[str, str, dict[str, str], Any]:
    """Give a request as a load takes it."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return ",".join(body["dataProviders"]), "/api/v1/requestApproval", headers, body
