"""The pages on adaptation: the planner that they add is one, and what they say of numbers and names is so."""

import importlib
import re
from pathlib import Path

import pytest

from dynamos.adaptation.planners import registry
from dynamos.adaptation.planners.bandit import BanditOptions
from dynamos.adaptation.planners.cost_model import CostModelOptions
from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import AVOIDED, Symptom
from dynamos.experiments.scripts import load
from dynamos.kit.errors import Mistakes

ROOT = Path(__file__).parents[2]
HOW_TO = (ROOT / "docs" / "how-to" / "add-a-planner.md").read_text()
PAGE = (ROOT / "docs" / "explanation" / "adaptation.md").read_text()
BLOCKS = dict(re.findall(r"<!-- run: ([^>]+) -->\n```\w+\n(.*?)^```$", HOW_TO, re.MULTILINE | re.DOTALL))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The page's planner, installed as its page says, in a package of its own."""
    (tmp_path / "idlest.py").write_text(BLOCKS["idlest.py"])
    info = tmp_path / "idlest-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: idlest\nVersion: 1\n")
    section, line = re.fullmatch(r'\[project\.entry-points\."([\w.]+)"\]\n(.*)\n', BLOCKS["entry points"]).groups()
    (info / "entry_points.txt").write_text(f"[{section}]\n{line.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    registry.known.cache_clear()
    yield
    registry.known.cache_clear()


def test_the_planner_of_the_page_is_found_and_picks_as_the_page_says(installed, capsys):
    exec(compile(BLOCKS["try it"], "try-it", "exec"), {})
    told = re.search(r"prints\n\n((?:    .*\n)+)", HOW_TO).group(1)
    assert capsys.readouterr().out == re.sub(r"^    ", "", told, flags=re.MULTILINE)
    assert "idlest" in registry.known()
    with pytest.raises(Mistakes):
        registry.make("idlest", {"slak": 0.1})


def test_without_readings_or_slack_the_planner_of_the_page_does_as_weights(installed):
    names = {}
    exec(compile(BLOCKS["try it"], "try-it", "exec"), names)
    situation = names["situation"]
    planner, _ = registry.make("idlest", {"slack": 0.9})
    assert planner.judge(situation).option == situation.usual
    assert planner.judge(situation.model_copy(update={"parties": {}})).option == situation.usual


def test_the_page_on_adaptation_has_every_planner_and_every_symptom():
    for name in registry.known():
        assert f"| `{name}` |" in PAGE
    kinds = Symptom.model_fields["kind"].annotation.__args__
    assert not [kind for kind in kinds if f"| `{kind}` |" not in PAGE]
    assert AVOIDED == ("overload", "memory", "gone", "flapping", "failing")
    assert "The first, second,\n`gone`, `flapping` and `failing` speak against" in PAGE


def test_the_numbers_on_the_page_are_the_defaults():
    plain, model, bandit = LoopSettings(), CostModelOptions(), BanditOptions()
    assert (plain.overload_above, plain.overload_below) == (0.8, 0.6)
    assert (plain.memory_above, plain.memory_below) == (0.9, 0.8)
    assert [str(each) for each in (plain.slow_link, plain.fair_link)] == ["50mbit", "100mbit"]
    assert (plain.raise_after, plain.clear_after, float(plain.hold)) == (2, 3, 3)
    assert (plain.flaps, float(plain.flap_window)) == (3, 30)
    assert (plain.failing_above, plain.failing_below, float(plain.forgive)) == (1.5, 0.75, 10)
    assert (float(plain.stale), float(plain.stale_link), float(plain.budget)) == (3, 60, 0.1)
    assert (model.margin, model.window) == (0.15, 256)
    assert (bandit.share, bandit.bound) == (0.2, 1.5)


def test_the_experiment_compares_every_planner_that_comes_with_dynamos():
    declared = load(ROOT / "experiments" / "adaptation.py")
    planners = next(factor for factor in declared.factors if factor.name == "planner")
    assert set(planners.levels) == {kind.name for kind in registry.BUILT_IN}
