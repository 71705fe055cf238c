"""A Chromium without a screen that says how a page came out, where this machine has one."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest

PROGRAM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
needs_chromium = pytest.mark.skipif(not PROGRAM, reason="there is no Chromium here: apt-get install chromium")
_SECONDS = 120.0
_SAY = """<script>addEventListener("load",()=>{const d=document.documentElement;
parent.postMessage({wide:d.scrollWidth,room:d.clientWidth,high:d.scrollHeight,
ink:getComputedStyle(document.body).color,page:getComputedStyle(document.body).backgroundColor,
axis:getComputedStyle(document.querySelector(".picture svg")||document.body).color,
unseen:[...document.images].filter(i=>!i.naturalWidth).length},"*")})</script>"""
_FRAME = """<!doctype html><style>body{{margin:0}}</style>
<iframe style="width:{width}px;height:4000px;border:0" src="{page}"></iframe>
<pre id="told"></pre><script>addEventListener("message",m=>{{
document.getElementById("told").textContent=JSON.stringify(m.data)}})</script>"""


@dataclass(frozen=True)
class Rendered:
    """What became of a page: how wide it is and how much room it has, its colours, and what the console said."""

    wide: int
    room: int
    high: int
    ink: str
    page: str
    axis: str
    unseen: int
    console: tuple[str, ...]


def render(page: Path, scratch: Path, *, width: int, dark: bool = False) -> Rendered:
    """Lay a page out at a width in CSS pixels."""
    told = page.with_name("told.html")
    told.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{_SAY}</body>"), encoding="utf-8")
    frame = page.with_name("frame.html")
    frame.write_text(_FRAME.format(width=width, page=told.name), encoding="utf-8")
    argv = [
        PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={scratch}", "--enable-logging=stderr",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=3000", "--dump-dom",
        "--window-size=1600,1200", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS, check=True)
    text = done.stdout.partition('<pre id="told">')[2].partition("</pre>")[0]
    console = tuple(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return Rendered(**json.loads(unescape(text)), console=console)
