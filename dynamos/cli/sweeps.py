"""How a sweep goes, as people see it: a bar on a terminal, a line a trial elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from dynamos.cli.shows import console
from dynamos.experiments.designs import shown
from dynamos.experiments.sweeps import Progress


@contextmanager
def watched() -> Iterator[Callable[[Progress], None]]:
    """Give what a sweep tells its progress to."""
    out = console(error=True)
    if not out.is_terminal:
        yield lambda progress: _line(out, progress)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Bar(*columns, console=out, transient=True) as bar:
        task = bar.add_task("", total=None, left="")

        def moved(progress: Progress) -> None:
            record = progress.record
            words = progress.note or (shown(record.cell) if record else "")
            left = f"{duration(progress.left_seconds)} left"
            bar.update(task, total=progress.total, completed=progress.done, description=words, left=left)
            if record and record.error and not record.warmup:
                told = record.error.get("message", "")
                bar.console.print(f"{record.status}: {shown(record.cell)}: {told}", markup=False)

        yield moved


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGTERM, or a terminal that goes away, stop the sweep as Ctrl-C does: with its testbed taken down."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, _interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def duration(seconds: float) -> str:
    """Give a length of time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _line(out: Console, progress: Progress) -> None:
    if record := progress.record:
        why = f": {record.error.get('message', '')}" if record.error else ""
        kind = " (warm-up)" if record.warmup else ""
        head = f"{progress.done}/{progress.total} {record.status}{kind} {shown(record.cell)}"
        line = f"{head} {record.seconds:.2f} s{why}; {duration(progress.left_seconds)} left"
        out.print(line, soft_wrap=True, highlight=False, markup=False)
    elif progress.note:
        out.print(progress.note, style="dim")
