"""JSON bodies, strictly: bounded in size, depth and time, without duplicate members and without NaN."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from dynamos.kit.errors import BadInput
from dynamos.middleware.api.errors import BodyTooLarge, SlowBody, UnknownMedia

LIMIT_BYTES = 1 << 20
LIMIT_DEPTH = 32
BODY_SECONDS = 10.0
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_MEDIA = re.compile(r"application/(?:[\w.+-]+\+)?json|text/(?:json|plain)|application/x-www-form-urlencoded")


def dumps(value: Any, *, indent: int | None = None) -> bytes:
    """Give the JSON text of a value, UTF-8."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators, indent=indent)
    return text.encode(errors="replace")


async def read(request: Request) -> Any:
    """Give the value in the body. Raises BadInput (400, 408, 413, 415) that says where the text goes wrong.

    The content types of curl's `--data` and of scripts that set none are taken for JSON, as upstream takes them.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media and not _MEDIA.fullmatch(media):
        raise UnknownMedia(f"the body is {media!r}", hint="send JSON, with content-type application/json")
    request.state.body = await _bytes(request)  # another API may have to be asked the same
    return parse(request.state.body)


async def _bytes(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > LIMIT_BYTES:
                    raise BodyTooLarge(f"the body has more than {LIMIT_BYTES} bytes", hint="a request is a short text")
                chunks.append(chunk)
    except TimeoutError:
        raise SlowBody(f"the body did not arrive within {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise BadInput("the client went away before its body was complete") from None
    return b"".join(chunks)


def parse(body: bytes) -> Any:
    """Give the JSON value in `body`. Raises BadInput with line and column, or the name of a duplicate member."""
    if not body.strip():
        raise BadInput("the body is empty", hint="send JSON")
    _check_depth(body)
    try:
        value = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_members, parse_constant=_no_constant, parse_float=_finite
        )
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadInput(f"the body is not JSON: {error.msg}", where=where) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"the body is not UTF-8: byte {error.start}", hint="send UTF-8") from None
    except UnicodeEncodeError:
        raise BadInput("the body has half a character: a lone surrogate", hint="send UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise BadInput(f"the body has a number that is too long: {error}") from None
    return value


def _check_depth(body: bytes) -> None:
    """Refuse nesting that no request has before the parser meets it."""
    depth = 0
    for found in _TOKENS.finditer(body):
        match found[0][:1]:
            case b"[" | b"{":
                depth += 1
                if depth > LIMIT_DEPTH:
                    raise _too_deep()
            case b"]" | b"}":
                depth -= 1


def _too_deep() -> BadInput:
    return BadInput(f"the body is nested deeper than {LIMIT_DEPTH} levels")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadInput(f"the member {twice!r} is given twice", where=twice, hint="give it once")
    return members


def _no_constant(text: str) -> NoReturn:
    raise BadInput(f"the body has {text}, which is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise BadInput(f"the body has the number {text}, which is too large")
    return number
