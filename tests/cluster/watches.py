"""The API with nothing but the standard library, for the small parts of a cluster that watch it."""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

Told = Callable[[str, str, Mapping[str, Any]], None]
"""Is told what kind of event (ADDED, MODIFIED, DELETED), of which kind of thing, and the thing; and LISTED with the
whole list after a gap."""
_PAUSE, _WATCH_SECONDS, _SILENCE = 0.2, 240, 300.0


class Api:
    """An API server at an address, as the user sees it whose certificate is in a folder, with that of the authority."""

    def __init__(self, folder: Path, user: str, server: str) -> None:
        self._context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        self._context.load_cert_chain(folder / f"{user}.crt", folder / f"{user}.key")
        parts = urlsplit(server)
        self._host, self._port = str(parts.hostname), int(parts.port or 443)

    def ask(self, verb: str, path: str, body: Any = None, *, kind: str = "application/json") -> tuple[int, Any]:
        """Ask for one thing, and give the status and what came. Raises OSError where nobody answers."""
        connection = self._connection(10.0)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(verb, path, text, {"Content-Type": kind} if text else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def follow(self, kind: str, path: str, told: Told) -> None:
        """Tell everything at `path` and every change of it, for ever, whatever comes in between."""
        while True:
            try:
                status, listed = self.ask("GET", path)
                if status != http.client.OK:
                    raise ConnectionError(f"{path}: {status} {listed}")
                told("LISTED", kind, listed)
                version = listed["metadata"]["resourceVersion"]
                for event in self._events(path, version):
                    told(event["type"], kind, event["object"])
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                sys.stderr.write(f"{kind}: {error}\n")
                sys.stderr.flush()
                time.sleep(_PAUSE)

    def _events(self, path: str, version: str) -> Iterator[dict[str, Any]]:
        """Give the changes after a version until the server ends the watch; raises where it lost count."""
        while True:
            query = {"watch": 1, "resourceVersion": version, "timeoutSeconds": _WATCH_SECONDS}
            connection = self._connection(_SILENCE)
            try:
                connection.request("GET", f"{path}?{urlencode(query)}&allowWatchBookmarks=true")
                answer = connection.getresponse()
                if answer.status != http.client.OK:
                    raise ConnectionError(f"{path}: {answer.status}")
                while line := answer.readline():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ConnectionError(str(event["object"].get("message")))
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event
            finally:
                connection.close()

    def _connection(self, patience: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=patience, context=self._context)
