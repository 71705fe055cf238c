import socket
from pathlib import Path

import pytest

from dynamos.deploy.provisioning import certify, configure, known_users, prepare_grounds, token_for
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import Conflict, NotFound
from dynamos.middleware.configs import AgentConfig
from dynamos.middleware.identity.tokens import DEVELOPMENT_ISSUER, Verifier
from dynamos.model.datasets import DataSet, Source
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.profiles import Profile, Settings

PROFILE = Profile(name="laptop", marketplace="aviation")
FLIGHTS = {"flights": {"flights": Source(path="flights.parquet")}}
MARKETPLACE = Marketplace(
    name="aviation",
    users={"ann": "analyst"},
    parties={
        "united": Party(name="united", data=FLIGHTS, admins=("legal",)),
        "jetblue": Party(name="jetblue", data=FLIGHTS),
    },
    data_sets={"flights": DataSet(name="flights")},
)
DATA = {"united": Path("/data/united"), "jetblue": Path("/data/jetblue")}


@pytest.fixture
def folder(tmp_path):
    folder = StateFolder(tmp_path / "laptop")
    folder.make()
    return folder


def provision(folder, marketplace=MARKETPLACE, profile=PROFILE):
    grounds = prepare_grounds(folder, profile, marketplace)
    certify(grounds)
    configure(grounds, DATA)
    return grounds


def names(folder, unit):
    return {path.name for path in folder.unit(unit).iterdir()}


def test_each_unit_has_its_own_files_and_nothing_else(folder):
    provision(folder)
    own = {"certificate.pem", "key.pem", "authority.pem"}
    assert names(folder, "bus") == names(folder, "admin") == own
    assert names(folder, "orchestrator") == own | {"api.pem", "config.json"}
    assert names(folder, "united") == own | {"api.pem", "config.json", "orchestrator.pem"}
    assert names(folder, "api") == own | {"jwks.json", "config.json", "orchestrator.pem"}
    keys = {
        (folder.unit(unit) / "key.pem").read_bytes() for unit in ("bus", "orchestrator", "united", "jetblue", "api")
    }
    assert len(keys) == 5


def test_folders_and_keys_are_for_their_owner_only(folder):
    provision(folder)
    for unit in ("bus", "united", "api"):
        assert folder.unit(unit).stat().st_mode & 0o777 == 0o700
        assert (folder.unit(unit) / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (folder.unit("united") / "config.json").stat().st_mode & 0o777 == 0o600


def test_an_agents_configuration_reads_back_and_says_where_its_data_are(folder):
    provision(folder)
    config = AgentConfig.model_validate_json((folder.unit("united") / "config.json").read_bytes())
    assert (config.name, config.data) == ("united", DATA["united"])
    assert config.orchestrator.read_text() == (folder.unit("orchestrator") / "certificate.pem").read_text()


def test_keys_are_made_once_and_kept(folder):
    provision(folder)
    before = (folder.unit("united") / "key.pem").read_bytes()
    provision(folder)
    assert (folder.unit("united") / "key.pem").read_bytes() == before


def test_a_party_that_left_leaves_no_key(folder):
    provision(folder)
    fewer = MARKETPLACE.model_copy(update={"parties": {"united": MARKETPLACE.parties["united"]}})
    provision(folder, fewer)
    assert not folder.unit("jetblue").exists()


def test_the_state_of_another_marketplace_is_not_taken(folder):
    provision(folder)
    with pytest.raises(Conflict, match="of the marketplace 'aviation'"):
        provision(folder, MARKETPLACE.model_copy(update={"name": "wage-gap"}))


def test_tokens_are_for_this_marketplace_and_say_whose_agreements_one_may_change(folder):
    provision(folder)
    verifier = Verifier(folder.unit("api") / "jwks.json", issuer=DEVELOPMENT_ISSUER, audience="aviation")
    assert verifier.verify(token_for(folder, "legal")).admin_of == ("united",)
    assert verifier.verify(token_for(folder, "ann")).admin_of == ()
    assert known_users(folder) == ["ann"]


def test_without_an_issuer_there_is_no_token(folder):
    with pytest.raises(NotFound, match="no issuer"):
        token_for(folder, "ann")


def test_a_port_that_is_taken_is_told_before_anything_starts(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        profile = PROFILE.model_copy(update={"settings": Settings(api_port=port)})
        with pytest.raises(Conflict, match=f"port {port} is in use"):
            prepare_grounds(folder, profile, MARKETPLACE)
