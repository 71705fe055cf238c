"""Declarations: what is wrong with what a script says, all of it at once, each with its line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

from dynamos.experiments.factors import CHANGES
from dynamos.experiments.records import COLUMNS
from dynamos.kit.errors import Mistake
from dynamos.kit.words import suggest
from dynamos.model.units import Duration

if TYPE_CHECKING:
    from dynamos.experiments.scripts import Experiment

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
Told = Iterator[tuple[str, str]]


def mistakes(experiment: Experiment, where: str) -> list[Mistake]:
    """Give everything that is wrong with an experiment that is declared at `where`."""
    found = [mistake for measure in experiment.measures for mistake in measure.mistakes(where)]
    for at, factor in enumerate(experiment.factors):
        found += factor.mistakes(where, [each.name for each in experiment.factors[:at]])
    for check in (_numbers, _names, _baseline, _parallel):
        found += [Mistake(where, message, hint) for message, hint in check(experiment)]
    return found + _functions(experiment, where)


def _numbers(experiment: Experiment) -> Told:
    from dynamos.experiments.scripts import Needs  # noqa: PLC0415  it imports us

    if not _NAME.fullmatch(experiment.name):
        yield f"{experiment.name!r} is no name for a folder of runs", "letters, digits, _ and -"
    needs = get_args(Needs)
    if experiment.needs not in needs:
        yield f"needs={experiment.needs!r}", suggest(experiment.needs, needs) or f"one of {', '.join(needs)}"
    for name, least in (("repetitions", 1), ("quick_repetitions", 1), ("warmups", 0), ("parallel", 1)):
        if getattr(experiment, name) < least:
            yield f"{name}={getattr(experiment, name)}", f"{least} at least"
    for name in ("bound", "typical"):
        try:
            Duration.parse(getattr(experiment, name))
        except ValueError as error:
            yield f"{name}: {error}", ""


def _names(experiment: Experiment) -> Told:
    factors, measures = ([each.name for each in some] for some in (experiment.factors, experiment.measures))
    for kind, names in (("factor", factors), ("measure", measures)):
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            yield f"the {kind} {name!r} is declared twice", ""
    for name in factors:
        if name in measures:
            yield f"{name!r} is both a factor and a measure", "call one otherwise"
    for name in (*factors, *measures):
        if name in COLUMNS:
            yield f"{name!r} is a column of every table of trials", "call it otherwise"
    if not measures:
        yield "it measures nothing", 'measures=[Measure("total", "s")]'


def _baseline(experiment: Experiment) -> Told:
    levels = {factor.name: factor.all for factor in experiment.factors}
    for name, level in experiment.baseline.items():
        if name not in levels:
            yield f"the baseline names {name!r}, which is no factor", suggest(name, levels)
        elif level not in levels[name]:
            yield f"the baseline's {name}={level!r} is no level of it", ""


def _parallel(experiment: Experiment) -> Told:
    timed = [measure.name for measure in experiment.measures if measure.timed]
    if experiment.parallel > 1 and (timed or experiment.needs != "nothing"):
        told = ", ".join(timed) or f"what it needs: {experiment.needs}"
        yield f"its trials would disturb each other: {told}", "leave parallel out"


def _functions(experiment: Experiment, where: str) -> list[Mistake]:
    """Tell which factors a function does not take, and which of its parameters are no factor, at its own line."""
    if experiment.body is None:
        return [Mistake(where, "it has no trial function", "@experiment.trial")]
    works: list[tuple[Callable[..., Any], Sequence[str]]] = [(experiment.body, CHANGES)]
    works += [
        (work, CHANGES[: CHANGES.index(change) + 1]) for change, some in experiment.setups.items() for work in some
    ]
    works += [(experiment.shape, CHANGES[:1])] if experiment.shape else []
    found: list[Mistake] = []
    for work, changes in works:
        names = [factor.name for factor in experiment.factors if factor.changes in changes]
        found += [Mistake(_place(work, where), message, hint) for message, hint in _unfit(work, names)]
    return found


def _unfit(work: Callable[..., Any], names: Sequence[str]) -> Told:
    parameters = inspect.signature(work).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    taken, called = list(parameters)[1:], getattr(work, "__name__", "the function")
    for name in names:
        if name not in taken:
            yield f"{called}() does not take the factor {name!r}", ""
    for name in taken:
        if name not in names and parameters[name].default is inspect.Parameter.empty:
            yield f"{called}() takes {name!r}, which is no factor of its kind", suggest(name, names)


def _place(work: Callable[..., Any], where: str) -> str:
    code = getattr(inspect.unwrap(work), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else where
