"""Bundles: everything that a node installs, brought by the controller, so that a site needs no internet.

A bundle is one tar file with the wheel of this project, those of its dependencies, and uv, which installs them. Its
manifest names every wheel with its SHA-256; wheels of others are only taken with the hashes of the locked requirements.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dynamos
from dynamos.kit.errors import JobFailed, NotFound, TimedOut

FETCH_SECONDS = 600.0
GLIBC = ("2_17", "2_24", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35")
"""The releases of the C library whose wheels a node of today takes."""
REQUIREMENTS = ("run.txt", "node.txt")
_MANIFEST = "bundle.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that is there. `digest` is of the names and hashes of its wheels, `wheels` are the hashes by name."""

    archive: Path
    digest: str
    version: str
    wheels: dict[str, str]

    def as_json(self) -> dict[str, object]:
        """Give the manifest, as the nodes get it, and where the archive is."""
        return {
            "archive": str(self.archive),
            "digest": self.digest,
            "version": self.version,
            "wheels": self.wheels,
        }


def make(folder: Path, *, python: str = "3.11", machine: str = "x86_64", source: Path | None = None) -> Bundle:
    """Make the bundle of this program in `folder`, or give the one that is there already for the same sources.

    `python` and `machine` are those of the nodes. Raises NotFound where there is no checkout to build from, JobFailed
    where a wheel cannot be had or has another hash than the locked one.
    """
    root = source or checkout()
    key = _key(root, python, machine)
    archive, manifest = folder / f"dynamos-{key}.tar", folder / f"dynamos-{key}.json"
    if archive.exists() and manifest.exists():
        return _read(archive, manifest)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=folder) as room:
        wheels = Path(room) / "wheels"
        wheels.mkdir()
        for name in REQUIREMENTS:
            fetch(root / "requirements" / name, wheels, python=python, machine=machine)
        own_wheel(root, wheels)
        hashes = {path.name: _hash(path) for path in sorted(wheels.iterdir())}
        told = {"digest": _digest(hashes), "version": dynamos.__version__, "wheels": hashes}
        (Path(room) / _MANIFEST).write_text(json.dumps(told, indent=2), encoding="utf-8")
        half = Path(room) / archive.name
        with tarfile.open(half, "w") as tar:
            for path in sorted(wheels.iterdir()):
                tar.add(path, f"wheels/{path.name}", filter=_anybodys)
        half.replace(archive)
        (Path(room) / _MANIFEST).replace(manifest)
    return _read(archive, manifest)


def read(archive: Path) -> Bundle:
    """Give a bundle that was made earlier, by its archive. Raises NotFound where it or its manifest is missing."""
    manifest = archive.with_suffix(".json")
    if not archive.is_file() or not manifest.is_file():
        raise NotFound("there is no such bundle", where=str(archive), hint="python -m dynamos.deploy.bundles FOLDER")
    return _read(archive, manifest)


def checkout() -> Path:
    """Give the folder that this program is developed in. Raises NotFound where it was installed without it."""
    root = Path(dynamos.__file__).resolve().parent.parent
    if not (root / "pyproject.toml").exists() or not (root / "requirements").is_dir():
        raise NotFound("there are no sources to build the wheel of", where=str(root), hint="work in a checkout")
    return root


def own_wheel(root: Path, wheels: Path) -> None:
    """Build the wheel of the checkout `root` into the folder `wheels`. Raises JobFailed where it cannot be built."""
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(root))


def fetch(requirements: Path, wheels: Path, *, python: str, machine: str) -> None:
    """Download the wheels of locked requirements, each checked against its hash. Raises JobFailed where one is not."""
    tags = [word for glibc in GLIBC for word in ("--platform", f"manylinux_{glibc}_{machine}")]
    tags += ["--platform", f"manylinux2014_{machine}", "--python-version", python, "--implementation", "cp"]
    _pip(
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        *tags,
        "--dest",
        str(wheels),
        "--requirement",
        str(requirements),
    )


def _pip(*words: str) -> None:
    argv = [sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check", "--no-input"]
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip()
        if "No module named pip" in said:
            raise NotFound("pip is not installed", hint="install the extra: pip install 'dynamos[infra]'") from None
        raise JobFailed(f"the bundle cannot be made: {said}", where=words[-1]) from None
    except subprocess.TimeoutExpired:
        raise TimedOut(f"pip did not end within {FETCH_SECONDS:g} s", where=words[-1]) from None


def _key(root: Path, python: str, machine: str) -> str:
    """Give a digest of all that a bundle is made from."""
    paths = [root / "pyproject.toml", root / "README.md", *(root / "requirements" / name for name in REQUIREMENTS)]
    paths += [path for path in sorted((root / "dynamos").rglob("*")) if path.is_file() and _is_source(path)]
    total = hashlib.sha256(f"{python} {machine}".encode())
    for path in paths:
        total.update(f"{path.relative_to(root)}\0{_hash(path)}\n".encode())
    return total.hexdigest()[:16]


def _is_source(path: Path) -> bool:
    return "__pycache__" not in path.parts


def _read(archive: Path, manifest: Path) -> Bundle:
    told = json.loads(manifest.read_bytes())
    return Bundle(archive, told["digest"], told["version"], told["wheels"])


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(hashes: dict[str, str]) -> str:
    return hashlib.sha256("".join(f"{name}\0{each}\n" for name, each in hashes.items()).encode()).hexdigest()


def _anybodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out of the archive whose the files are and when they were written."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime, member.mode = 0, 0o644
    return member


def main(argv: Sequence[str] | None = None) -> None:
    """Make a bundle from the command line (FOLDER [PYTHON [MACHINE]]), and print its manifest as JSON."""
    words: Iterable[str] = sys.argv[1:] if argv is None else argv
    folder, python, machine = [*words, *("3.11", "x86_64")[max(0, len(list(words)) - 1) :]][:3]
    sys.stdout.write(json.dumps(make(Path(folder), python=python, machine=machine).as_json()) + "\n")


if __name__ == "__main__":
    main()
