"""The `dynamos` command: one module for each group of verbs, and one place where errors become words."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated

import typer

from dynamos.kit.errors import Broken, Cancelled, DynamosError

INTERRUPTED = 130

app = typer.Typer(
    name="dynamos",
    help="Middleware for data exchange between organisations, and the testbed to experiment with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, in a third of the time
    context_settings={"help_option_names": ["-h", "--help"]},
)

_GROUPS = (
    "testbeds", "reconciling", "requests", "jobs", "agreements", "adapting", "chains", "tokens", "nodes", "links",
    "proofs", "profiles", "stacks", "images", "manifests", "services", "experiments", "exports", "demos",
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        import dynamos

        sys.stdout.write(f"dynamos {dynamos.__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the code an error came from. May stand anywhere.")
    ] = False,
) -> None:
    """Middleware for data exchange between organisations, and the testbed to experiment with it."""


def build() -> typer.Typer:
    """Give the whole command, with the verbs of every group, in the order of the help page."""
    if not app.registered_commands:
        for name in _GROUPS:
            importlib.import_module(f"dynamos.cli.{name}").add(app)
    return app


def run(arguments: list[str] | None = None) -> None:
    """Run the command and leave with its exit code: those of kit.errors, 2 for wrong usage, 130 after Ctrl-C.

    A person's mistake never shows a traceback; `--debug` (or DYNAMOS_DEBUG=1) shows it.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words or bool(os.environ.get("DYNAMOS_DEBUG"))
    words = [word for word in words if word != "--debug"]
    try:
        build()(args=words, prog_name="dynamos")
    except DynamosError as error:
        _leave(error, debug=debug)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _close_output()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  the top of the process
        hint = "this is a defect of ours; --debug shows where it comes from"
        _leave(Broken(f"{type(error).__name__}: {error}", hint=hint), debug=debug, cause=error)


def _leave(error: DynamosError, *, debug: bool, cause: Exception | None = None) -> None:
    if debug:
        import traceback

        traceback.print_exception(cause or error)
    from dynamos.cli.shows import print_error

    print_error(error)
    sys.exit(INTERRUPTED if isinstance(error, Cancelled) and "interrupted" in error.facts else error.exit)


def _close_output() -> None:
    """Whoever read our output is gone; let Python not complain of it at the end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())


if __name__ == "__main__":
    run()
