"""Go programs as sources of a layer: static, and the same bytes for the same sources and the same Go."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dynamos.kit.errors import BadInput, JobFailed, NotFound, TimedOut

BUILD_SECONDS = 600.0
_MAGIC = b"\xff Go buildinf:"
_SENTINEL = 16
"""Bytes around the list of modules that mark it."""


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module that is in a program, with its sum (`h1:…`) where it has one."""

    path: str
    version: str
    sum: str = ""

    @property
    def purl(self) -> str:
        """Its package URL, by which scanners of weaknesses know it."""
        return f"pkg:golang/{self.path}@{self.version}" if self.version else f"pkg:golang/{self.path}"


def build(sources: Path, program: Path, architecture: str) -> None:
    """Build the program in the folder `sources`, which has its own go.mod and go.sum.

    Raises NotFound where the sources or Go are missing, JobFailed with what Go says where it does not build.
    """
    if not (sources / "go.mod").is_file() or not any(sources.glob("*.go")):
        raise NotFound("there are no sources of this Go program", where=str(sources), hint="work in a checkout")
    flags = ["-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags=-s -w -buildid="]
    more = {"CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": architecture, "GOFLAGS": "", "GOWORK": "off"}
    program.parent.mkdir(parents=True, exist_ok=True)
    _go("build", *flags, "-o", str(program), ".", folder=sources, more=more)


def modules(program: Path) -> tuple[str, tuple[Module, ...]]:
    """Give the version of Go that a program was built with, and the modules that are in it, itself first.

    Read from what Go's linker leaves in each program (debug/buildinfo), so Go itself is not needed. Raises BadInput
    where the file is no Go program.
    """
    content = program.read_bytes()
    at = content.find(_MAGIC)
    if at < 0 or not content[at + 15] & 2:
        raise BadInput("this is not a program of Go 1.18 or later", where=str(program))
    version, at = _string(content, at + 32)
    told, _ = _string(content, at)
    found: list[Module] = []
    for line in told[_SENTINEL:-_SENTINEL].decode().splitlines():
        kind, *words = line.split("\t")
        if kind == "=>" and found:
            found.pop()  # the line before named what this one stands in for
        if kind in ("mod", "dep", "=>"):
            path, release, total = (*words, "", "")[:3]
            found.append(Module(path, release.replace("(devel)", ""), total))
    return version.decode(), tuple(found)


def _string(content: bytes, at: int) -> tuple[bytes, int]:
    """Read bytes that are preceded by their number (a varint), and give where they end."""
    size = shift = 0
    while True:
        byte = content[at]
        at, size, shift = at + 1, size | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:  # noqa: PLR2004  the last byte of a varint
            return content[at : at + size], at + size


def _go(*words: str, folder: Path | None = None, more: dict[str, str] | None = None) -> str:
    environment = {**os.environ, "GOTOOLCHAIN": "local", **(more or {})}
    try:
        done = subprocess.run(
            ("go", *words), check=True, capture_output=True, text=True, cwd=folder, env=environment,
            timeout=BUILD_SECONDS,
        )  # fmt: skip
    except FileNotFoundError:
        raise NotFound("Go is not installed", hint="install Go 1.25 or later (https://go.dev/dl)") from None
    except subprocess.CalledProcessError as error:
        raise JobFailed(f"Go says: {error.stderr.strip()}", where=str(folder or words[-1])) from None
    except subprocess.TimeoutExpired:
        raise TimedOut(f"go {words[0]} did not end within {BUILD_SECONDS:g} s", where=str(folder)) from None
    return done.stdout
