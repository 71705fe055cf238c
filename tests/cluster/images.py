"""Images that a cluster itself needs, as archives that containerd imports: the pause image and CoreDNS, each one static
program."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from cluster.configs import PAUSE

COREDNS = "dynamos.local/coredns:1"
BUSYBOX = "dynamos.local/busybox:1"
USER = 65532
_CATATONIT = Path("/usr/bin/catatonit")


def own_images(programs: Path) -> list[Path]:
    """Give the archives of the cluster's own images, written beside its programs where they are not there yet."""
    kept = programs / "images"
    kept.mkdir(exist_ok=True)
    return [
        _archive(kept, PAUSE, _CATATONIT, "/pause", ["-P"]),
        _archive(kept, COREDNS, programs / "coredns", "/coredns", []),
    ]


def busybox(folder: Path) -> tuple[Path, str]:
    """Write the archive of an image with a shell and small tools into a folder, and give it with the image's name."""
    return _archive(folder, BUSYBOX, Path("/usr/bin/busybox"), "/bin/busybox", ["sh"]), BUSYBOX


def _archive(folder: Path, name: str, program: Path, place: str, words: list[str]) -> Path:
    facts = program.stat()
    mark = hashlib.sha256(f"{name} {facts.st_size} {facts.st_mtime_ns} {words}".encode()).hexdigest()[:12]
    path = folder / f"{name.partition('/')[2].replace(':', '-')}-{mark}.tar"
    if not path.exists():
        near = path.with_suffix(".part")
        near.write_bytes(_image(name, program.read_bytes(), place, words))
        near.rename(path)
    return path


def _image(name: str, program: bytes, place: str, words: list[str]) -> bytes:
    """Give an archive with an image of one layer, that is one file."""
    layer = _tar({place.lstrip("/"): (program, 0o755)})
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [place, *words], "User": f"{USER}:{USER}", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "tests"}],
    }
    text = json.dumps(config).encode()
    file = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": file, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    files = {file: text, f"{digest}/layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    return _tar({name: (content, 0o644) for name, content in files.items()})


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, (content, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()
