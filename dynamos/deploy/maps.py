"""Maps: a profile's sites, parties and links as an SVG, readable on light and dark, the same for the same profile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape

from dynamos.deploy.layouts import Point, spread
from dynamos.model.networks import Direction, Link
from dynamos.model.profiles import Profile
from dynamos.model.sites import Site
from dynamos.model.units import Rate
from dynamos.testbed.overlay_plans import overlay_mtu

_LINE, _LABEL_LINE, _PAD = 17, 15, 12
_BOLD, _PLAIN, _SMALL, _LARGE = 8.6, 7.6, 7.0, 11.5
"""How wide a character is at most, of names, other texts, labels and the title."""
_MARGIN, _TITLE, _GAP = 32, 92, 40
_LABELS_UP_TO = 40
_STYLE = """
text{font:13px ui-sans-serif,system-ui,"Segoe UI","DejaVu Sans",sans-serif;fill:#1f2933}
.page,.pill{fill:#ffffff}.title{font-size:18px;font-weight:600}.pale,.label{fill:#52606d}.label{font-size:12px}
.site{fill:#f5f7fa;stroke:#9aa5b1}.control{stroke:#2f6db5;stroke-width:2}.name{font-weight:600}.mark{fill:#2f6db5}
.link{stroke:#7b8794;stroke-width:1.6}
@media (prefers-color-scheme:dark){
text{fill:#e4e7eb}.page,.pill{fill:#161b22}.pale,.label{fill:#9fb3c8}.site{fill:#1f2a37;stroke:#52606d}
.control{stroke:#6ea8e5}.mark{fill:#6ea8e5}.link{stroke:#7b8794}}
"""


@dataclass(frozen=True, slots=True)
class _Card:
    """A site on the map: its middle, its size, and what is written on it; `mark` is beside its name."""

    name: str
    mark: str
    lines: tuple[str, ...]
    main: bool
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0


def draw_map(profile: Profile) -> str:
    """Draw the profile's sites as an SVG document: the longer a link's delay, the longer it is drawn."""
    links = [link for link in profile.links if {*link.between} <= set(profile.sites)]
    labels = {link.name: _words(link) for link in links} if len(links) <= _LABELS_UP_TO else {}
    heading = _heading(profile)
    cards = _placed([_card(site, profile) for site in profile.sites.values()], links, labels)
    widest = max((each.x + each.width / 2 for each in cards.values()), default=0.0)
    width = max(widest + _MARGIN, *(2 * _MARGIN + size * len(text) for text, _, size in heading))
    shift = (width - _MARGIN - widest) / 2
    cards = {name: replace(each, x=each.x + shift) for name, each in cards.items()}
    height = max((each.y + each.height / 2 for each in cards.values()), default=_TITLE) + _MARGIN
    body = [
        *(_text(_MARGIN, 34 + 22 * at, text, kind) for at, (text, kind, _) in enumerate(heading)),
        *(line for link in links for line in _drawn(link, cards)),
        *(line for link in links if link.name in labels for line in _label(link, cards, labels[link.name])),
        *(line for each in cards.values() for line in _site(each)),
    ]
    told = escape(f"Map of the testbed {profile.name}", {'"': "&quot;"})
    size = f'width="{width:.0f}" height="{height:.0f}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" {size}'
    return "\n".join(
        [
            f'{opening} role="img" aria-label="{told}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" {size}/>',
            *body,
            "</svg>\n",
        ]
    )


def _heading(profile: Profile) -> list[tuple[str, str, float]]:
    """Give the lines above the map, each with its style and the width of its characters."""
    overlay, market = profile.overlay, profile.marketplace.rpartition("/")[2]
    words = f"marketplace {market} · driver {profile.driver}"
    if profile.driver != "processes":
        words += f" · overlay {overlay.driver}, scope {overlay.scope}, mtu {overlay_mtu(profile)}"
    lines = [(profile.name, "title", _LARGE), (profile.description, "pale", _PLAIN), (words, "pale", _PLAIN)]
    return [line for line in lines if line[0]]


def _card(site: Site, profile: Profile) -> _Card:
    main = profile.control_site == site.name and len(profile.sites) > 1
    marks = [*(["control"] if main else []), *([f"{len(site.nodes)} nodes"] if len(site.nodes) > 1 else [])]
    mark = ", ".join(marks)
    head = _BOLD * len(site.name) + (14 + _SMALL * len(mark) if mark else 0)
    width = 2 * _PAD + max(head, *(_PLAIN * len(party) for party in site.parties), 40)
    return _Card(site.name, mark, site.parties, main, width, 2 * _PAD + 8 + _LINE * len(site.parties))


def _placed(cards: list[_Card], links: list[Link], labels: Mapping[str, list[str]]) -> dict[str, _Card]:
    """Give the cards where they stand: near each other as the links say, apart, and with room for labels."""
    found = {card.name: card for card in cards}
    if links:
        lengths = {frozenset(link.between): 1 + math.log1p(_delay(link) / 0.01) for link in links}
        places = spread([card.name for card in cards], lengths)
        factor = 100.0
        at = _at(found, places, factor)
        while factor < 1e4 and not all(_has_room(link, at, labels.get(link.name, [])) for link in links):  # noqa: PLR2004
            factor *= 1.15
            at = _at(found, places, factor)
    else:
        at = _rows(cards)
    left = min((each.x - each.width / 2 for each in at.values()), default=0.0)
    top = min((each.y - each.height / 2 for each in at.values()), default=0.0)
    return {
        name: replace(each, x=each.x - left + _MARGIN, y=each.y - top + _TITLE + _MARGIN / 2)
        for name, each in at.items()
    }


def _rows(cards: list[_Card]) -> dict[str, _Card]:
    """Set cards that nothing joins in rows."""
    columns = max(math.ceil(math.sqrt(len(cards) * 1.6)), 1)
    broad = max((card.width for card in cards), default=0) + _GAP / 2
    high = max((card.height for card in cards), default=0) + _GAP / 2
    return {
        card.name: replace(
            card, x=number % columns * broad + card.width / 2, y=number // columns * high + card.height / 2
        )
        for number, card in enumerate(cards)
    }


def _delay(link: Link) -> float:
    first, second = link.between
    return (float(link.direction(first).delay) + float(link.direction(second).delay)) / 2


def _at(cards: Mapping[str, _Card], places: Mapping[str, Point], factor: float) -> dict[str, _Card]:
    """Give the cards at these places, enlarged, and pushed apart where they would touch."""
    found = {
        name: replace(card, x=places[name][0] * factor, y=places[name][1] * factor) for name, card in cards.items()
    }
    names = list(found)
    for _ in range(100):
        moved = False
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                a, b = found[one], found[other]
                across = (a.width + b.width) / 2 + _GAP - abs(b.x - a.x)
                down = (a.height + b.height) / 2 + _GAP - abs(b.y - a.y)
                if across > 0 and down > 0:
                    moved = True
                    dx = math.copysign(across / 2 + 0.5, b.x - a.x) if across < down else 0.0
                    dy = math.copysign(down / 2 + 0.5, b.y - a.y) if across >= down else 0.0
                    found[one], found[other] = replace(a, x=a.x - dx, y=a.y - dy), replace(b, x=b.x + dx, y=b.y + dy)
        if not moved:
            break
    return found


def _has_room(link: Link, cards: Mapping[str, _Card], words: list[str]) -> bool:
    """Tell whether a link's label fits between the two cards."""
    a, b = (cards[site] for site in link.between)
    seen = max(1 - _edge(a, b) - _edge(b, a), 0.0)
    width, height = _size(words)
    return seen * abs(b.x - a.x) > width + 16 or seen * abs(b.y - a.y) > height + 16


def _edge(card: _Card, other: _Card) -> float:
    """Give how far along the line from its middle to the other's a card's edge is."""
    dx, dy = abs(other.x - card.x), abs(other.y - card.y)
    return min(card.width / 2 / dx if dx else 1.0, card.height / 2 / dy if dy else 1.0, 1.0)


def _size(words: list[str]) -> tuple[float, float]:
    return (max(map(len, words)) * _SMALL + 6, _LABEL_LINE * len(words) + 3) if words else (0.0, 0.0)


def _drawn(link: Link, cards: Mapping[str, _Card]) -> Iterator[str]:
    a, b = (cards[site] for site in link.between)
    yield f'<line class="link" x1="{a.x:.1f}" y1="{a.y:.1f}" x2="{b.x:.1f}" y2="{b.y:.1f}">'
    yield f"<title>{escape(link.name)}: {escape(', '.join(_words(link)))}</title></line>"


def _label(link: Link, cards: Mapping[str, _Card], words: list[str]) -> Iterator[str]:
    """Write a link's figures at the middle of what is seen of it."""
    a, b = (cards[site] for site in link.between)
    at = (_edge(a, b) + 1 - _edge(b, a)) / 2
    x, y = a.x + (b.x - a.x) * at, a.y + (b.y - a.y) * at
    width, height = _size(words)
    left, top = x - width / 2, y - height / 2
    yield f'<rect class="pill" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4"/>'
    for number, text in enumerate(words):
        yield _text(x, top + 13 + _LABEL_LINE * number, text, "label", anchor="middle")


def _words(link: Link) -> list[str]:
    """Give what a link is, line by line: each way on its own where they differ."""
    first, second = link.between
    forward, backward = link.direction(first), link.direction(second)
    mtu = [f"mtu {link.mtu}"] if link.mtu != Link.model_fields["mtu"].default else []
    if forward == backward:
        return [*_way(forward), *mtu]
    return [f"{first} →", *_way(forward), f"{second} →", *_way(backward), *mtu]


def _way(direction: Direction) -> list[str]:
    jitter = f" ± {float(direction.jitter) * 1000:.4g}" if direction.jitter else ""
    rest = []
    if direction.rate is not None:
        rest.append(_rate(direction.rate))
    if direction.loss:
        rest.append(f"{direction.loss * 100:.3g}% lost")
    return [f"{float(direction.delay) * 1000:.4g}{jitter} ms", *([", ".join(rest)] if rest else [])]


def _rate(rate: Rate) -> str:
    text = str(rate)
    for unit, written in (("gbit", "Gbit/s"), ("mbit", "Mbit/s"), ("kbit", "kbit/s"), ("bit", "bit/s")):
        if text.endswith(unit):
            return f"{text.removesuffix(unit)} {written}"
    return text


def _site(card: _Card) -> Iterator[str]:
    left, top = card.x - card.width / 2, card.y - card.height / 2
    kind = "site control" if card.main else "site"
    size = f'width="{card.width:.1f}" height="{card.height:.1f}"'
    yield f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" {size} rx="8"/>'
    yield _text(left + _PAD, top + 21, card.name, "name")
    if card.mark:
        yield _text(left + card.width - _PAD, top + 21, card.mark, "label mark", anchor="end")
    for number, party in enumerate(card.lines, 1):
        yield _text(left + _PAD, top + 21 + _LINE * number, party, "pale")


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{where}>{escape(text)}</text>'
