"""Subjects: which pattern covers which, and how buckets, keys and logs are called on NATS."""

from __future__ import annotations

import re

from dynamos.kit.errors import BadInput

LOGS = {
    "audit": ("AUDIT", "audit"),
    "traces": ("TRACES", "trace"),
    "adaptation": ("ADAPTATION", "adaptation"),
}
"""Log -> its stream and the first token of its subjects."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,63}")
_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,128}")
_KEY = re.compile(r"[A-Za-z0-9_=/-]+(\.[A-Za-z0-9_=/-]+)*")
_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_PATTERN = re.compile(r"([^\s.*>]+|\*)(\.([^\s.*>]+|\*))*(\.>)?|>")
_LIMIT = 512


def token(name: str) -> str:
    """Give `name` if it is one safe token: a dot would let one party's subjects reach into another's."""
    if not _TOKEN.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot be the name of a unit",
            code="bad-unit-name",
            hint="use 1 to 63 ASCII letters, digits, '-' or '_'",
        )
    return name


def bucket(name: str) -> str:
    """Give `name` if it is the name of a bucket. Raises BadInput where it is not."""
    if not _BUCKET.fullmatch(name):
        raise BadInput(f"{name!r} is not a bucket", code="bad-bucket")
    return name


def literal(subject: str) -> str:
    """Give `subject` if one can publish on it. Raises BadInput where it has wildcards, spaces or empty tokens."""
    if len(subject) > _LIMIT or not _SUBJECT.fullmatch(subject):
        raise BadInput(f"{subject!r} is not a subject to publish on", code="bad-subject")
    return subject


def pattern(subject: str) -> str:
    """Give `subject` if one can listen on it. Raises BadInput where it is malformed."""
    if len(subject) > _LIMIT or not _PATTERN.fullmatch(subject):
        raise BadInput(f"{subject!r} is not a subject to listen on", code="bad-subject")
    return subject


def key(text: str) -> str:
    """Give `text` if it is a key of a store. Raises BadInput where it is not."""
    if len(text) > _LIMIT or not _KEY.fullmatch(text):
        raise BadInput(
            f"{text!r} is not a key", code="bad-key", hint="use dot-separated letters, digits, '-', '_', '/', '='"
        )
    return text


def covers(wide: str, narrow: str) -> bool:
    """Tell whether everything that `narrow` (a subject or a pattern) means is meant by `wide` too."""
    ours, theirs = wide.split("."), narrow.split(".")
    for place, mine in enumerate(ours):
        if mine == ">":
            return place < len(theirs)
        if place >= len(theirs) or theirs[place] == ">":
            return False
        if mine not in ("*", theirs[place]):
            return False
    return len(ours) == len(theirs)


def narrower(one: str, other: str) -> str:
    """Give the pattern that the other one covers, or an empty text where neither covers the other."""
    if covers(other, one):
        return one
    return other if covers(one, other) else ""


def bucket_stream(name: str) -> str:
    """Give the stream that keeps a bucket."""
    return f"KV_{name}"


def written(name: str, key_pattern: str = ">") -> str:
    """Give the subject on which a key is written."""
    return f"$KV.{name}.{key_pattern}"


def changed(name: str, key_pattern: str = ">") -> str:
    """Give the subject on which the server tells what it has stored."""
    return f"changes.{name}.{key_pattern}"


def fetched(stream: str) -> str:
    """Give the subject on which many messages of one stream are read. It cannot read another stream."""
    return f"$JS.API.DIRECT.GET.{stream}"


def last(stream: str, subject: str) -> str:
    """Give the subject on which the last message of one subject in a stream is read."""
    return f"{fetched(stream)}.{subject}"


def logged(log: str, subject: str = ">") -> str:
    """Give the subject on which records of a log are appended."""
    return f"{LOGS[log][1]}.{subject}"


def inbox(unit: str) -> str:
    """Give the prefix of the subjects on which a unit gets its answers."""
    return f"_INBOX_{unit}"
