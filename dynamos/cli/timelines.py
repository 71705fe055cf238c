"""The time line of a job as a picture in the terminal: one line a span, one block a unit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from dynamos.middleware.spans import Span

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_red", "bright_cyan", "bright_green")
_NARROWEST_BAR = 20
_DEEPEST = 5
_MS = 1e6


class Timeline:
    """A picture of spans that is as wide as the terminal."""

    def __init__(self, spans: Sequence[Span], *, title: str = "") -> None:
        self._spans = spans
        self._title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        begin = min(span.start for span in self._spans)
        end = max(begin + 1, *(span.end for span in self._spans))
        units = list(dict.fromkeys(span.unit for span in self._spans))
        colours = {unit: _COLOURS[place % len(_COLOURS)] for place, unit in enumerate(units)}
        blocks = not options.ascii_only
        names = [self._name(span) for span in self._spans]
        room = max(len(name) for name in [*names, *units])
        room = min(room, options.max_width - _NARROWEST_BAR - 12)
        width = max(_NARROWEST_BAR, options.max_width - room - 12)
        yield self._head(begin, end, room, width)
        unit = ""
        for span, name in zip(self._spans, names, strict=True):
            if span.unit != unit:
                unit = span.unit
                yield Text(unit, style=f"bold {colours[unit]}")
            yield Text.assemble(
                (f"{name[:room]:<{room}} ", ""),
                (_bar(span, begin, end, width, blocks=blocks), "red" if span.failed else colours[unit]),
                (f"{(span.end - span.start) / _MS:8.1f} ms", "dim"),
            )

    def _name(self, span: Span) -> str:
        return f"{'  ' * (1 + min(span.depth, _DEEPEST))}{span.name}"

    def _head(self, begin: int, end: int, room: int, width: int) -> Text:
        total = f"{(end - begin) / _MS:.0f} ms"
        scale = f"0{total:>{width - 1}}"
        return Text.assemble((f"{self._title[:room]:<{room}} ", "bold"), (scale, "dim"))


def draw(spans: Sequence[Span], *, title: str = "") -> Timeline:
    """Give the picture, to be printed with rich."""
    return Timeline(spans, title=title)


def _bar(span: Span, begin: int, end: int, width: int, *, blocks: bool) -> str:
    """Give the bar of one span: to an eighth of a character where the terminal can."""
    scale = width / (end - begin)
    left, right = (span.start - begin) * scale, (span.end - begin) * scale
    start = min(int(left), width - 1)
    if not blocks:
        length = max(1, round(right) - start)
        return f"{' ' * start}{'#' * min(length, width - start)}".ljust(width)
    eighths = max(1, round((min(right, width) - start) * 8))
    full, rest = divmod(eighths, 8)
    return f"{' ' * start}{_EIGHTHS[8] * full}{_EIGHTHS[rest] if rest else ''}"[:width].ljust(width)
