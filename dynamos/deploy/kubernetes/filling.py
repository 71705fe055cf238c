"""The job that fills a party's volume: `python -m dynamos.deploy.kubernetes.filling PACKED DATA`."""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
from pathlib import Path

from dynamos.deploy import unit
from dynamos.kit.errors import BadInput

_HALF = ".half"


def fill(packed: Path, data: Path) -> None:
    """Unpack the archive whose pieces are in `packed`. What is there already is replaced; no file is seen half.

    Raises BadInput for pieces that make no archive of plain files.
    """
    pieces = sorted(path for path in packed.iterdir() if not path.name.startswith("."))
    try:
        with tarfile.open(fileobj=io.BytesIO(b"".join(map(Path.read_bytes, pieces))), mode="r:gz") as archive:
            for member in archive:
                _put(archive, member, data)
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"the pieces make no archive: {error}", where=str(packed)) from None


def _put(archive: tarfile.TarFile, member: tarfile.TarInfo, data: Path) -> None:
    target = data / member.name
    source = archive.extractfile(member) if member.isfile() else None
    if source is None or not target.resolve().is_relative_to(data.resolve()):
        raise BadInput(f"the archive holds {member.name!r}, which is no plain file of ours", where=str(data))
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(target.name + _HALF)
    with half.open("wb") as file:
        shutil.copyfileobj(source, file)
    half.chmod(0o644)
    half.replace(target)


def main() -> None:
    """Fill the volume, and tell on standard error what went wrong."""
    packed, data = (Path(word) for word in sys.argv[1:3])
    raise SystemExit(unit.once("data", lambda: fill(packed, data), sys.stderr.fileno()))


if __name__ == "__main__":
    main()
