"""Scripts: an experiment is one Python file: what it asks, what it varies, what it measures, what it claims."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from dynamos.experiments.declarations import mistakes
from dynamos.experiments.factors import CHANGES, Cell, Change, Factor, Level
from dynamos.experiments.measures import Measure
from dynamos.kit.errors import BadInput, DynamosError, Mistakes, NotFound
from dynamos.model.profiles import Profile

if TYPE_CHECKING:
    from dynamos.experiments.outcomes import Outcomes

Needs: TypeAlias = Literal["marketplace", "networks", "nothing"]
"""What a trial works on: a whole DYNAMOS, the networks of a testbed alone, or only this machine."""

Body: TypeAlias = Callable[..., Mapping[str, Any]]
Setup: TypeAlias = Callable[..., None]
Shape: TypeAlias = Callable[..., Profile]
Finding: TypeAlias = "bool | tuple[bool | None, str] | None"
"""Whether a claim holds (None: these trials cannot tell), and what shows it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that the trials show or refute, in words."""

    words: str
    find: Callable[[Outcomes], Finding]


@dataclass
class Experiment:
    """What a script declares. The functions that do the work are added by the decorators below.

    `profile` is the testbed that trials run on, `needs` how much of it. `baseline` are levels against which the others
    are compared; its trials are spread among theirs. `bound` ends a trial that takes longer; `typical` is what one
    takes, for the estimate before there is a figure. With `parallel`, trials may run beside each other: only where
    nothing that they measure is a matter of time.
    """

    name: str
    question: str
    factors: Sequence[Factor]
    measures: Sequence[Measure]
    profile: str = field(default="laptop", kw_only=True)
    needs: Needs = field(default="marketplace", kw_only=True)
    repetitions: int = field(default=5, kw_only=True)
    quick_repetitions: int = field(default=2, kw_only=True)
    warmups: int = field(default=1, kw_only=True)
    baseline: Cell = field(default_factory=dict, kw_only=True)
    bound: str = field(default="60s", kw_only=True)
    typical: str = field(default="1s", kw_only=True)
    parallel: int = field(default=1, kw_only=True)
    background: str = field(default="", kw_only=True)
    """What a reader should know first: where the question comes from, and what others found. Markdown."""
    limits: Sequence[str] = field(default=(), kw_only=True)
    """What the figures do not tell."""

    def __post_init__(self) -> None:
        self.body: Body | None = None
        self.shape: Shape | None = None
        self.setups: dict[Change, list[Setup]] = {change: [] for change in CHANGES}
        self.claims: list[Claim] = []
        self._place = _caller()

    @property
    def script(self) -> Path:
        """The file that declares it."""
        return Path(self._place.rpartition(":")[0])

    def trial(self, body: Body) -> Body:
        """The function of one trial: takes a bed and the levels by name (None where a factor is absent), and gives
        the value of each measure by name."""
        self.body = body
        return body

    def testbed(self, shape: Shape) -> Shape:
        """The function that gives the profile for the levels of the factors that change the testbed."""
        self.shape = shape
        return shape

    def setup(self, change: Change) -> Callable[[Setup], Setup]:
        """A function that is called whenever something of this kind is made anew: takes a bed and the levels of the
        factors of this kind and of dearer ones."""

        def added(work: Setup) -> Setup:
            if change not in CHANGES:
                raise BadInput(
                    f"there is no setup of {change!r}", where=self._place, hint=f"one of {', '.join(CHANGES)}"
                )
            self.setups[change].append(work)
            return work

        return added

    def claim(self, words: str) -> Callable[[Callable[[Outcomes], Finding]], Callable[[Outcomes], Finding]]:
        """A function that tells from the outcomes whether the claim holds, and what shows it."""

        def added(find: Callable[[Outcomes], Finding]) -> Callable[[Outcomes], Finding]:
            self.claims.append(Claim(words, find))
            return find

        return added

    def check(self) -> None:
        """Raise Mistakes that names everything that is wrong with the declaration."""
        if found := mistakes(self, self._place):
            raise Mistakes(found, subject=f"the experiment {self.name!r}")

    def main(self) -> NoReturn:
        """Run it as the command line says: what `dynamos experiment run SCRIPT` does."""
        if Path(str(getattr(sys.modules["__main__"], "__file__", ""))).resolve() != self.script.resolve():
            hint = 'if __name__ == "__main__": experiment.main()'
            raise BadInput("it runs itself whenever somebody reads it", where=self._place, hint=hint)
        argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", str(self.script), *sys.argv[1:]]
        os.execv(sys.executable, argv)  # noqa: S606  no shell


def levels_for(cell: Cell, factors: Sequence[Factor], change: Change) -> dict[str, Level | None]:
    """Give the levels of the factors that change this kind of thing or a dearer one."""
    ranks = CHANGES[: CHANGES.index(change) + 1]
    return {factor.name: cell.get(factor.name) for factor in factors if factor.changes in ranks}


def load(path: Path) -> Experiment:
    """Read the experiment that a script declares. Raises NotFound, and BadInput with the line where it goes wrong."""
    path = path.resolve()
    if not path.is_file():
        raise NotFound(f"there is no script {path.name!r}", where=str(path), hint="dynamos experiment list")
    module = types.ModuleType(f"experiment_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    with in_script(path):
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102  the user's own script
    found = [value for value in vars(module).values() if isinstance(value, Experiment)]
    if len(found) != 1:
        told = "no experiment" if not found else f"{len(found)} experiments"
        raise BadInput(f"it declares {told}", where=str(path), hint="experiment = Experiment(...), one in a script")
    found[0].check()
    return found[0]


def digest_of(path: Path) -> str:
    """Give the SHA-256 of a script's text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def in_script(path: Path) -> Iterator[None]:
    """Turn whatever the user's own code raises into BadInput with its line."""
    try:
        yield
    except DynamosError:
        raise
    except SyntaxError as error:
        raise BadInput(f"it is not Python: {error.msg}", where=f"{error.filename or path}:{error.lineno}") from error
    except SystemExit as error:
        raise BadInput("it ends the program that reads it", where=_line_in(path, error)) from error
    except Exception as error:
        raise BadInput(f"{type(error).__name__}: {error}", where=_line_in(path, error)) from error


def _line_in(path: Path, error: BaseException) -> str:
    """Give where in the script an error came from: its last line that is on the way."""
    line, step = 0, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(path):
            line = step.tb_lineno
        step = step.tb_next
    return f"{path}:{line}" if line else str(path)


def _caller() -> str:
    """Give the file and line that declare the experiment: those that call `Experiment(...)`."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename in (__file__, "<string>"):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "experiment:0"
