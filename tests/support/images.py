"""Small images for tests, made by the project's own writer: a shell, as a service that cannot be trusted has one."""

import shutil
import subprocess
from pathlib import Path

from dynamos.deploy.images import references
from dynamos.deploy.images.manifests import Runs
from dynamos.deploy.images.packing import pack
from dynamos.deploy.images.references import Built

BUSYBOX = "busybox"


def has_busybox() -> bool:
    """Tell whether this machine has a busybox that needs no libraries (Debian's busybox-static)."""
    path = shutil.which(BUSYBOX)
    return bool(path) and b"ld-linux" not in Path(path).read_bytes()[:4096]


def shell_image(folder: Path, name: str = "shell") -> tuple[Path, str]:
    """Make an image with a shell, wget, nc, nslookup and all else of busybox; give its archive and its reference."""
    root = folder / f"{name}-root"
    programs = root / "bin"
    programs.mkdir(parents=True)
    shutil.copyfile(shutil.which(BUSYBOX), programs / BUSYBOX)
    (programs / BUSYBOX).chmod(0o755)
    for applet in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if not (programs / applet).exists():
            (programs / applet).symlink_to(BUSYBOX)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    archive = folder / f"{name}.tar"
    runs = Runs(("/bin/sh",), environment={"PATH": "/bin"})
    return archive, pack(root, archive, name=name, version="1", runs=runs)


def built(folder, content=b"1", name="thing"):
    """Pack an image, with a record and a bill as a build leaves them."""
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    (root / "program").write_bytes(content)
    reference = pack(root, folder / f"{name}.tar", name=name, version="1", runs=Runs(("/program",)))
    (folder / f"{name}.spdx.json").write_text('{"spdxVersion":"SPDX-2.3"}')
    digest = reference.partition("@")[2]
    found = Built(name, "1", digest, f"{name}.tar", f"{name}.spdx.json", "amd64", 1, 1, {})
    references.write(folder, {name: found})
    return digest
