"""Which engine runs programs: the user's own where it is new enough, else the one that was built, else what to do."""

import pytest

from dynamos.deploy.pulumi.engines import find_engine
from dynamos.kit.errors import Unavailable


def engine(folder, version):
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "pulumi"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    return program


def test_the_users_own_is_taken_where_it_is_new_enough(tmp_path):
    own = engine(tmp_path / "bin", "v3.260.1")
    engine(tmp_path / "tools", "v3.259.0")
    found = find_engine(path=str(tmp_path / "bin"), tools=tmp_path / "tools")
    assert (found.path, found.version, found.ours) == (own, (3, 260, 1), False)


@pytest.mark.parametrize("old", ["v3.200.0", "v2.99.9", "nonsense"])
def test_one_that_is_too_old_gives_way_to_the_one_that_was_built(tmp_path, old):
    engine(tmp_path / "bin", old)
    built = engine(tmp_path / "tools", "v3.259.0")
    found = find_engine(path=str(tmp_path / "bin"), tools=tmp_path / "tools")
    assert (found.path, found.ours) == (built, True)


def test_the_built_one_on_the_path_is_still_ours(tmp_path):
    built = engine(tmp_path / "tools", "v3.259.0")
    found = find_engine(path=str(tmp_path / "tools"), tools=tmp_path / "tools")
    assert (found.path, found.ours) == (built, True)
    assert found.environment(tmp_path)["PULUMI_HOME"]


def test_without_any_it_says_how_to_get_one(tmp_path):
    with pytest.raises(Unavailable, match="there is no pulumi here") as told:
        find_engine(path=str(tmp_path), tools=tmp_path)
    assert "make pulumi" in told.value.hint


def test_an_old_one_alone_is_refused_with_its_version(tmp_path):
    engine(tmp_path / "bin", "v3.100.0")
    with pytest.raises(Unavailable, match=r"its version is 3\.100\.0") as told:
        find_engine(path=str(tmp_path / "bin"), tools=tmp_path)
    assert "make pulumi" in told.value.hint
