"""Debian packages as sources of a layer: fetched and checked by apt in a folder of its own, unpacked by nobody special.

No package is installed and none of its scripts runs: an image holds the files of the packages that are named, and
nothing that is needed only to install more.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dynamos.kit.errors import BadInput, JobFailed, NotFound, TimedOut

RELEASE = "bookworm"
FETCH_SECONDS = 300.0
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MERGED = ("bin", "sbin", "lib", "lib64")
"""Folders that are links into /usr, as on every Debian of today."""


@dataclass(frozen=True, slots=True)
class Deb:
    """A package that was fetched."""

    path: Path
    name: str
    version: str
    architecture: str
    sha256: str

    @property
    def purl(self) -> str:
        """Its package URL, by which scanners of weaknesses know it."""
        version = self.version.replace(":", "%3A").replace("+", "%2B")
        return f"pkg:deb/debian/{self.name}@{version}?arch={self.architecture}&distro={RELEASE}"


def fetch(names: Sequence[str], into: Path, sources: Path | None = None) -> tuple[Deb, ...]:
    """Fetch the newest version of these packages into a folder, in the order of their names.

    apt takes them from where this machine takes Debian from, or from an apt `sources` file, and checks signatures and
    hashes. Raises NotFound where there is no apt or no Debian, JobFailed where a package cannot be had.
    """
    config = _config(into, sources)
    _run("apt-get", "-q", "update", config=config)
    packages = into / "packages"
    packages.mkdir()
    _run("apt-get", "-q", "download", *sorted(names), config=config, folder=packages)
    return tuple(_read(path) for path in sorted(packages.glob("*.deb")))


def unpack(deb: Deb, root: Path, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Unpack those files of a package into `root` whose path (without a leading slash) is wanted."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for member in tar:
                path = _merged(member.name)
                if path and not member.isdir() and wanted(path):
                    _extract(tar, member, root / path, root)
    if process.returncode:
        raise JobFailed("the package cannot be unpacked", where=deb.path.name)


def merge(root: Path) -> None:
    """Make the links of a merged /usr, for those of its folders that there are."""
    for name in _MERGED:
        if (root / "usr" / name).is_dir() and not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def _config(into: Path, sources: Path | None) -> Path:
    """Write a configuration that has apt keep all that it knows in `into`."""
    listed = into / "debian.sources.list"
    if sources is None:
        listed.write_text("".join(f"{line}\n" for line in _machine_sources()), encoding="utf-8")
    elif not sources.is_file():
        raise NotFound("there is no such file of apt sources", where=str(sources))
    else:
        shutil.copyfile(sources, into / f"own{sources.suffix or '.list'}")
        listed = into / f"own{sources.suffix or '.list'}"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (into / folder).mkdir(parents=True)
    (into / "status").touch()
    told = {
        "Dir::State": f"{into}/state/", "Dir::Cache": f"{into}/cache/", "Dir::State::Status": f"{into}/status",
        "Dir::Etc::SourceList": str(listed), "Dir::Etc::SourceParts": "/dev/null", "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null", "Acquire::Languages": "none", "Acquire::Retries": "3",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false", "APT::Default-Release": "",
    }  # fmt: skip
    if os.geteuid() == 0:
        told["APT::Sandbox::User"] = "root"  # the user _apt cannot write into a folder of ours
    config = into / "apt.conf"
    config.write_text("".join(f'{name} "{value}";\n' for name, value in told.items()), encoding="utf-8")
    return config


def _machine_sources() -> list[str]:
    """Give lines of sources for the release of the images, at the mirrors that this machine uses for its own."""
    form = "$(LABEL) $(REPO_URI)"
    told = _run("apt-get", "indextargets", "--format", form, "Origin: Debian", "Created-By: Packages")
    mirrors = {(label, uri) for label, _, uri in (line.partition(" ") for line in told.splitlines())}
    suites = {"Debian": (RELEASE, f"{RELEASE}-updates"), "Debian-Security": (f"{RELEASE}-security",)}
    signed = f"[signed-by={KEYRING}] " if KEYRING.is_file() else ""
    lines = [
        f"deb {signed}{uri} {suite} main" for label, uri in sorted(mirrors) for suite in suites.get(label, ())
    ]  # fmt: skip
    if not lines:
        hint = "run apt-get update on a Debian, or name an apt sources file with --sources"
        raise NotFound("this machine's apt knows no mirror of Debian", hint=hint)
    return lines


def _run(*argv: str, config: Path | None = None, folder: Path | None = None) -> str:
    more = {"APT_CONFIG": str(config)} if config else {}
    environment = {**os.environ, **more, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS, env=environment, cwd=folder
        )
    except FileNotFoundError:
        hint = "build the images on Debian or Ubuntu, or in a container of one; being root is not needed"
        raise NotFound(f"{argv[0]} is not installed", hint=hint) from None
    except subprocess.CalledProcessError as error:
        said = " ".join(line for line in error.stderr.splitlines() if line.startswith("E: ")) or error.stderr.strip()
        raise JobFailed(f"Debian packages cannot be had: {said}", where=" ".join(argv[:3])) from None
    except subprocess.TimeoutExpired:
        raise TimedOut(f"{argv[0]} did not end within {FETCH_SECONDS:g} s", where=" ".join(argv[:3])) from None
    return done.stdout


def _read(path: Path) -> Deb:
    told = _run("dpkg-deb", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}", str(path))
    name, version, machine = told.split("\t")
    with path.open("rb") as file:
        return Deb(path, name, version, machine, hashlib.file_digest(file, "sha256").hexdigest())


def _merged(name: str) -> str:
    """Give the path of a member in a merged /usr. Raises BadInput for one that would leave the root."""
    parts = PurePosixPath(name).parts
    parts = parts[1:] if parts[:1] in (("/",), (".",)) else parts
    if ".." in parts:
        raise BadInput("the package has a path out of its root", where=name)
    return str(PurePosixPath("usr", *parts)) if parts[:1] and parts[0] in _MERGED else "/".join(parts)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(root / _merged(member.linkname), path)
    elif file := tar.extractfile(member):
        with path.open("wb") as out:
            shutil.copyfileobj(file, out)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
