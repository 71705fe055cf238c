"""The command line, run in this process; and an API that answers what a test says."""

import json
import os
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import httpx

from dynamos.cli import main, targets
from dynamos.middleware.clients import Api


@dataclass
class Said:
    code: int
    out: str
    err: str


def dynamos(capsys, *words):
    """Run `dynamos WORDS` and give its exit code and what it printed."""
    try:
        with mock.patch.dict(os.environ, {"COLUMNS": "100"}):
            main.run([str(word) for word in words])
        code = 0
    except SystemExit as end:
        code = end.code or 0
    printed = capsys.readouterr()
    return Said(code, printed.out, printed.err)


@dataclass
class FakeApi:
    """Answers by method and path, and remembers what was asked. An answer is JSON, or (status, JSON, headers)."""

    answers: dict[str, Any]
    asked: list[httpx.Request] = field(default_factory=list)

    def install(self, monkeypatch):
        transport = httpx.MockTransport(self._answer)
        monkeypatch.setattr(targets, "api", lambda *_: Api("http://api", token="t", transport=transport))
        return self

    def _answer(self, request):
        self.asked.append(request)
        key = f"{request.method} {request.url.path}"
        found = self.answers.get(f"{key}?{request.url.query.decode()}", self.answers.get(key))
        if found is None:
            return httpx.Response(404, json={"status": 404, "code": "not-found", "detail": f"no answer to {key}"})
        if isinstance(found, bytes):
            return httpx.Response(200, content=found)
        status, body, headers = found if isinstance(found, tuple) else (200, found, {})
        if isinstance(body, bytes):
            return httpx.Response(status, content=body, headers=headers)
        return httpx.Response(status, json=body, headers=headers)

    def body(self, place=-1):
        return json.loads(self.asked[place].content)
