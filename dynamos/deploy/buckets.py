"""The buckets and logs of a marketplace, made from a node: `python -m dynamos.deploy.buckets URL FOLDER STAMP PARTIES`.

FOLDER holds the administrator's certificate and key; STAMP is a file that lives as long as what the bus keeps; PARTIES
are separated by commas. Prints `made` where they had not been made for these parties yet.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from dynamos.deploy.units import AUTHORITY, CERTIFICATE, KEY
from dynamos.kit.credentials import Credentials
from dynamos.kit.digests import digest
from dynamos.kit.errors import DynamosError
from dynamos.knowledge.provisioning import provision


def make(url: str, folder: Path, stamp: Path, parties: Sequence[str]) -> bool:
    """Make them unless they were made for the same parties, and tell which."""
    wanted = digest([url, *parties])
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return False
    credentials = Credentials(folder / CERTIFICATE, folder / KEY, folder / AUTHORITY)
    asyncio.run(provision(url, credentials, parties))
    stamp.write_text(wanted, encoding="ascii")
    return True


def main() -> None:
    """Run from the command line; a mistake is told in one line."""
    url, folder, stamp, parties = sys.argv[1:5]
    try:
        made = make(url, Path(folder), Path(stamp), parties.split(","))
    except DynamosError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit) from None
    sys.stdout.write("made\n" if made else "there\n")


if __name__ == "__main__":
    main()
