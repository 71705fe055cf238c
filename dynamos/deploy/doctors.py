"""What this machine has of the packages that features need, and how the rest is installed: Debian's packages, by
apt-get, as root, and never anything that this machine would then run by itself."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dynamos.deploy.packages import FEATURES, SERVICES, lacking
from dynamos.kit.errors import JobFailed, TimedOut, Unavailable

logger = logging.getLogger(__name__)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs of the system are, also for those whose own PATH leaves out the administrator's."""
INSTALL_SECONDS = 900.0
_NO_SERVICES = "#!/bin/sh\n# packages that are installed for their programs start no services\nexit 101\n"
_ENVIRONMENT = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
_WAIT = ("-o", "DPkg::Lock::Timeout=120")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "ftp_proxy")

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def is_there(sign: str) -> bool:
    """Tell whether this machine has a program of that name, or a file at that path."""
    return Path(sign).exists() if sign.startswith("/") else shutil.which(sign, path=PATH) is not None


def missing(there: Callable[[str], bool] = is_there) -> tuple[str, ...]:
    """Give the packages that are missing for all features to be there."""
    return tuple(dict.fromkeys(package for feature in FEATURES for package in lacking(feature, there)))


def obstacle() -> str:
    """Tell why packages cannot be installed from here; empty where they can."""
    if shutil.which("apt-get", path=PATH) is None:
        return "there is no apt-get on this machine"
    return "" if os.geteuid() == 0 else "it takes root"


def command(packages: Sequence[str]) -> str:
    """Give what a person types to install these packages."""
    return " ".join(("apt-get install --no-install-recommends", *packages))


def install(
    packages: Sequence[str], *, told: Callable[[str], None], run: Run | None = None, root: Path = Path("/")
) -> None:
    """Install packages, and let nothing of them start or be started with the machine. Says what it does.

    Raises Unavailable where this cannot be done here, JobFailed with the end of what apt-get said, TimedOut.
    """
    if not packages:
        return
    run = run or _run
    if why := obstacle():
        raise Unavailable(f"packages cannot be installed: {why}", hint=f"as root: {command(packages)}")
    words = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *_WAIT, *packages)
    told(command(packages))
    with _nothing_started(root):
        done = run(words)
        if done.returncode != 0:
            told("apt-get update")
            run(("apt-get", "update", "--quiet"))
            done = run(words)
    if done.returncode != 0:
        log = (done.stdout + done.stderr).strip().splitlines()[-10:]
        raise JobFailed("apt-get could not install the packages", hint=f"as root: {command(packages)}", log=log)
    _keep_off(packages, told, run, root)
    logger.info("packages.installed", extra={"packages": list(packages)})


@contextmanager
def _nothing_started(root: Path) -> Iterator[None]:
    """Forbid packages to start what they bring while they are installed; leave a rule that is there already alone."""
    rule = root / "usr/sbin/policy-rc.d"
    try:
        descriptor = os.open(rule, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
    except FileExistsError:
        yield
        return
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_NO_SERVICES)
            os.fchmod(descriptor, 0o755)
        yield
    finally:
        rule.unlink(missing_ok=True)


def _keep_off(packages: Sequence[str], told: Callable[[str], None], run: Run, root: Path) -> None:
    """Have the machine not start at its next boot what these packages bring."""
    services = [service for package in packages for service in SERVICES.get(package, ())]
    if services and (root / "run/systemd/system").is_dir():
        told(f"systemctl disable {' '.join(services)}")
        run(("systemctl", "disable", "--quiet", *services))


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    proxies = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            env=_ENVIRONMENT | proxies,
            stdin=subprocess.DEVNULL,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimedOut(f"{words[0]} did not end within {INSTALL_SECONDS:g} s") from None
