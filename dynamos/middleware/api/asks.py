"""The two forms in which a request may come, and the one value that both become.

Upstream's form has `dataProviders` and `data_request`; ours is `Request` as it is. Upstream read member names in any
letter case, with or without underscores; so do we. Members of upstream's form that mean nothing are accepted and
ignored: `data_request.requestMetadata` and `data_request.user`, which upstream overwrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dynamos.kit.errors import BadInput, Mistake, Mistakes
from dynamos.kit.words import suggest
from dynamos.model.documents import json_path
from dynamos.model.explanations import explain, show
from dynamos.model.requests import Request

Path = tuple[str | int, ...]
SUBJECT = "the request"
_OUTER = {
    "type": "type",
    "user": "user",
    "dataproviders": "providers",
    "archetype": "archetype",
    "computeprovider": "computeProvider",
    "deadline": "deadline",
    "jobid": "jobId",
}
_INNER = {
    "type": "type",
    "query": "query",
    "algorithm": "algorithm",
    "algorithmcolumns": "algorithmColumns",
    "options": "options",
    "requestmetadata": "",
    "user": "",
}
_PLAIN = {_name.lower(): _name for _name in (f.alias or n for n, f in Request.model_fields.items())} | {
    "jobid": "jobId"
}
_USER = {"id": "id", "username": "userName"}
_SPELLING = {"data_request": "data_request", "dataproviders": "dataProviders", "requestmetadata": "requestMetadata"}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as somebody sent it; `job` is the id that they chose for it, if any."""

    request: Request
    job: str = ""


class _Reader:
    """Takes members out of a body; remembers where each came from, and what is wrong."""

    def __init__(self) -> None:
        self.members: dict[str, Any] = {}
        self.paths: dict[str, Path] = {}
        self.mistakes: list[Mistake] = []

    def wrong(self, path: Path, message: str, hint: str = "") -> None:
        self.mistakes.append(Mistake(json_path(path), message, hint))

    def take(self, found: Any, path: Path, names: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
        """Give the members of an object by their folded names, each with the name that was written."""
        if not isinstance(found, dict):
            self.wrong(path, f"found {show(found)}, expected an object")
            return {}
        taken: dict[str, tuple[str, Any]] = {}
        for name, value in found.items():
            folded = fold(name)
            if folded not in names:
                known = [_SPELLING.get(key, word or key) for key, word in names.items()]
                self.wrong((*path, name), f"unknown member {name!r}", suggest(name, known))
            elif folded in taken:
                self.wrong((*path, name), f"member {name!r} is given twice", f"as {taken[folded][0]!r} too")
            elif value is not None:
                taken[folded] = (name, value)
        return taken

    def keep(self, taken: Mapping[str, tuple[str, Any]], path: Path, names: Mapping[str, str]) -> None:
        """Take over members under the names that `Request` has for them."""
        for folded, (written, value) in taken.items():
            if (name := names.get(folded, "")) and name not in self.members:
                self.members[name] = value
                self.paths[name] = (*path, written)


def fold(name: str) -> str:
    """Give a member's name without letter case and underscores."""
    return name.lower().replace("_", "")


def read(body: Any, *, user: str = "", user_id: str = "") -> Ask:
    """Read a request in either form. `user` is who asks where the body does not say so.

    Raises Mistakes: each with its JSON path, and near names where a name is unknown.
    """
    if not isinstance(body, dict):
        raise BadInput(f"the body is {show(body)}, not an object", where="$")
    reader = _Reader()
    if {fold(name) for name in body} & {"datarequest", "dataproviders"}:
        _upstream(reader, body)
    else:
        reader.keep(reader.take(body, (), _PLAIN), (), _PLAIN)
    _user(reader, user, user_id)
    return _ask(reader)


def _upstream(reader: _Reader, body: dict[str, Any]) -> None:
    names = {**_OUTER, "datarequest": "data_request"}
    outer = reader.take(body, (), names)
    reader.keep(outer, (), _OUTER)
    if "datarequest" not in outer:
        reader.wrong(("data_request",), "member 'data_request' is missing")
        return
    written, inner = outer["datarequest"]
    reader.paths |= {"providers": ("dataProviders",), "query": (written, "query")}
    taken = reader.take(inner, (written,), _INNER)
    kinds = [kind for kind in (outer.get("type"), taken.get("type")) if kind]
    if len(kinds) > 1 and kinds[0][1] != kinds[1][1]:
        reader.wrong(
            (written, kinds[1][0]), f"found {show(kinds[1][1])}, but the request's type is {show(kinds[0][1])}"
        )
    reader.keep(taken, (written,), _INNER)


def _user(reader: _Reader, user: str, user_id: str) -> None:
    path = reader.paths.get("user", ("user",))
    given = {}
    if "user" in reader.members:
        taken = reader.take(reader.members["user"], path, _USER)
        given = {_USER[folded]: value for folded, (_, value) in taken.items()}
        for folded, (written, _) in taken.items():
            reader.paths[f"user.{_USER[folded]}"] = (*path, written)
    if user:
        given.setdefault("userName", user)
    if user_id and given.get("userName") == user:
        given["id"] = user_id
    if "userName" not in given and not any(mistake.where.startswith(json_path(path)) for mistake in reader.mistakes):
        reader.wrong((*path, "userName"), "member 'userName' is missing", "say who asks, or send a token that does")
    reader.members["user"] = given


def _ask(reader: _Reader) -> Ask:
    """Make the value, or tell every mistake at once."""
    _strict(reader)
    job = reader.members.pop("jobId", "")
    if not isinstance(job, str):
        reader.wrong(reader.paths["jobId"], f"found {show(job)}, expected a text")
    missing_user = "userName" not in reader.members["user"]
    members = {**reader.members, "user": {"userName": "-", **reader.members["user"]}}
    try:
        request = Request.model_validate(members)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            loc = tuple(step for step in error["loc"] if step != "[key]")
            reader.wrong(_path(reader, loc), *explain(error, Request))
        raise Mistakes(reader.mistakes, subject=SUBJECT) from None
    if len(set(request.providers)) != len(request.providers):
        reader.wrong(_path(reader, ("providers",)), "a provider is named twice", "name each provider once")
    if reader.mistakes or missing_user:
        raise Mistakes(list(dict.fromkeys(reader.mistakes)), subject=SUBJECT)
    return Ask(request, job)


def _strict(reader: _Reader) -> None:
    """Refuse switches that are not true or false: "yes" and 1 are guesses."""
    options = reader.members.get("options")
    for name, value in options.items() if isinstance(options, dict) else ():
        if not isinstance(value, bool):
            reader.wrong((*_path(reader, ("options",)), name), f"found {show(value)}, expected true or false")


def _path(reader: _Reader, loc: Path) -> Path:
    """Give the place in the body that was sent of a place in the value that was made of it."""
    if len(loc) > 1 and f"{loc[0]}.{loc[1]}" in reader.paths:
        return (*reader.paths[f"{loc[0]}.{loc[1]}"], *loc[2:])
    if loc and str(loc[0]) in reader.paths:
        return (*reader.paths[str(loc[0])], *loc[1:])
    return loc
