"""What an overlay's driver lacks on this machine is told with its place in the profile, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamos.deploy import networks, profiles
from dynamos.kit.errors import Unavailable
from dynamos.testbed.overlays.drivers import Capabilities
from dynamos.testbed.overlays.vxlan import Vxlan

TEXT = """\
name: lacking
extends: three-sites
overlay:
  scope: request
  driver: vxlan
"""


def test_a_package_that_is_missing_is_told_with_line_and_hint(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "lacking.yaml"
    path.write_text(TEXT)
    profile = profiles.load(path)

    def check() -> None:
        networks.check_needs(profile, lambda: profiles.where(path, "overlay", "driver"))

    monkeypatch.setattr(Vxlan, "capabilities", Capabilities(2, encrypts=False, overhead=50, programs={"sh": "dash"}))
    check()
    lacking = Capabilities(2, encrypts=False, overhead=50, programs={"no-such-program": "no-such-package"})
    monkeypatch.setattr(Vxlan, "capabilities", lacking)
    with pytest.raises(
        Unavailable, match="'vxlan' cannot be made here: the program 'no-such-program' is missing"
    ) as told:
        check()
    assert told.value.where == f"{path}:5:3 ($.overlay.driver)"
    assert "no-such-package" in told.value.hint
