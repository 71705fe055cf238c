"""A client of the HTTP API: answers as values, problem documents as errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote

from dynamos.kit.errors import Broken, DynamosError, TimedOut, Unavailable, revive
from dynamos.kit.imports import leave_out_httpx_command

leave_out_httpx_command()

import httpx  # noqa: E402

BASE = "/api/v1"
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
"""Longer than the API itself takes for anything but a job's result, whose deadline is the job's."""


class Api:
    """Talks to one API, as one user."""

    def __init__(self, address: str, *, token: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self.address = address.rstrip("/")
        self.token = token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        self._client = httpx.Client(
            base_url=self.address, headers=headers, timeout=timeout, transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        """Give the JSON at the path."""
        return self.call("GET", path, params=params).json()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = ANSWER_SECONDS,
    ) -> httpx.Response:
        """Make one call and give its successful answer. Raises the error that the API tells, Unavailable, TimedOut."""
        timeout = httpx.Timeout(within, connect=CONNECT_SECONDS)
        with self._explained():
            answer = self._client.request(
                method, path, json=body, params=_present(params) or None, headers=headers, timeout=timeout
            )
        if answer.is_error:
            raise problem(answer)
        return answer

    @contextmanager
    def stream(self, path: str, *, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """Open a long answer, to be read piece by piece."""
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        with self._explained(), self._client.stream("GET", path, headers=headers, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
                raise problem(answer)
            yield answer

    @contextmanager
    def _explained(self) -> Iterator[None]:
        hint = "dynamos status tells what runs"
        try:
            yield
        except httpx.TimeoutException as error:
            raise TimedOut(f"{self.address} did not answer in time", hint=hint) from error
        except httpx.InvalidURL as error:
            raise Unavailable(f"{self.address!r} is not an address: {error}", hint="http://HOST:PORT") from error
        except httpx.TransportError as error:
            raise Unavailable(f"{self.address} cannot be reached: {error}", hint=hint) from error


def problem(answer: httpx.Response) -> DynamosError:
    """Give the error that a problem document tells of."""
    try:
        members = answer.json()
    except ValueError:
        members = None
    if not isinstance(members, dict) or "detail" not in members:
        return Broken(f"the API answered {answer.status_code} {answer.reason_phrase} without a problem document")
    dropped = ("type", "title", "instance")
    return revive({name: value for name, value in members.items() if name not in dropped})


def _present(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value not in (None, "")}


def result_path(job: str, result: Mapping[str, Any]) -> str:
    """Give the path of one result of a job."""
    return f"{BASE}/jobs/{quote(job, safe='')}/result?name={quote(result['name'], safe='')}"
