"""The same requests have the same results over sites as on a laptop, whatever network the parties share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dynamos.deploy.places import marketplace_folder, shipped
from dynamos.deploy.provisioning import token_for
from dynamos.deploy.states import StateFolder
from dynamos.deploy.testbeds import bring_up, take_down
from support.sites import needs_root

pytestmark = [pytest.mark.testbed, pytest.mark.system, pytest.mark.xdist_group("testbed")]

REQUESTS = ("delay-by-origin", "delay-mixed", "delay-through-third-party", "fleet-age", "refused-tailnum")
OVERLAYS = [{"driver": "none", "scope": "marketplace"}, {"driver": "vxlan", "scope": "request"}]
"""The other drivers have the same contract, which their own tests hold them to."""


def answer(state: StateFolder, name: str) -> Any:
    """Give what comes of a request of the marketplace that is the same wherever it runs."""
    request = json.loads((marketplace_folder("aviation") / "requests" / f"{name}.json").read_text())
    headers = {"authorization": f"Bearer {token_for(state, request['user']['userName'])}"}
    with httpx.Client(base_url=state.read_status().api, headers=headers, timeout=60, trust_env=False) as client:
        told = client.post("/api/v1/requestApproval", json=request)
    found = told.json()
    return told.status_code, found.get("responses") or found.get("reasons") or found


@contextmanager
def up(folder: Path, profile: Path) -> Iterator[StateFolder]:
    folder.chmod(0o755)
    state = StateFolder(folder / profile.stem)
    try:
        bring_up(state, profile)
        yield state
    finally:
        take_down(state)


@pytest.fixture(scope="module")
def on_a_laptop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    needs_root()
    with up(tmp_path_factory.mktemp("laptop"), shipped() / "laptop.yaml") as state:
        return {name: answer(state, name) for name in REQUESTS}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: "-".join(overlay.values()))
def test_results_are_the_same_as_on_a_laptop(on_a_laptop: dict[str, Any], tmp_path: Path, overlay: dict[str, str]):
    profile = tmp_path / "near.yaml"
    pairs = [["amsterdam", "los-angeles"], ["los-angeles", "tokyo"], ["amsterdam", "tokyo"]]
    links = [{"between": pair} for pair in pairs]
    profile.write_text(json.dumps({"extends": "three-sites", "name": "near", "links": links, "overlay": overlay}))
    with up(tmp_path, profile) as state:
        assert {name: answer(state, name) for name in REQUESTS} == on_a_laptop
