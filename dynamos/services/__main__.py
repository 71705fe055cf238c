"""`python -m dynamos.services NAME`: run one service as a program, as the contract of services says (design §5.1)."""

from __future__ import annotations

import os
import sys

from dynamos.kit.errors import DynamosError
from dynamos.services import catalogue


def run() -> int:
    """Run the service that the command line names, on this process's environment."""
    if len(sys.argv) != 2:  # noqa: PLR2004  the program and its one argument
        sys.stderr.write(f"usage: python -m dynamos.services NAME\nservices: {', '.join(catalogue.names())}\n")
        return 2
    try:
        main = catalogue.find(sys.argv[1])
    except DynamosError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit
    return main(os.environ)


if __name__ == "__main__":
    sys.exit(run())
