"""What routers answer tells which link carries nothing, and a job that it failed is told so."""

from __future__ import annotations

import pytest

from dynamos.middleware.network.messages import Sounding
from dynamos.middleware.orchestrator.soundings import blamed
from dynamos.testbed.soundings import path_between, read
from support.worlds_of_profiles import profile_of

PATH, LINKS = ["a", "b", "c"], ["a-b", "b-c"]
ROUTERS = {"198.18.0.1": "a", "198.19.0.2": "b", "198.19.0.6": "c"}
A, B, C = ((11, 0, address) for address in ROUTERS)
NODE = (3, 3, "198.18.2.11")
NO_WAY_A, NO_WAY_B = ((3, 0, address) for address in list(ROUTERS)[:2])


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({1: A, 2: B, 3: C, 4: NODE}, Sounding()),
        ({4: NODE}, Sounding()),
        ({1: A, 3: C}, Sounding(site="c")),
        ({1: A, 2: B, 3: C, 4: (3, 1, "198.19.0.6")}, Sounding(site="c")),
        ({1: A}, Sounding(link="a-b", state="silent")),
        ({1: A, 2: B}, Sounding(link="b-c", state="silent")),
        ({2: B}, Sounding(link="b-c", state="silent")),
        ({1: NO_WAY_A}, Sounding(link="a-b", state="cut")),
        ({2: NO_WAY_A}, Sounding(link="a-b", state="cut")),
        ({1: A, 3: NO_WAY_B}, Sounding(link="b-c", state="cut")),
        ({}, Sounding()),
    ],
)
def test_the_link_is_the_one_that_its_routers_point_at(told, found):
    assert read(PATH, LINKS, told, ROUTERS) == found


def test_the_path_is_that_of_the_packets():
    assert path_between(profile_of(), "a", "c") == PATH
    assert path_between(profile_of(links=[]), "a", "c") == ["a"]


def test_an_error_names_the_link_before_what_it_did():
    told = blamed(
        {"message": "the peer went away", "code": "peer-away", "where": "cid"}, Sounding(link="b-c", state="cut")
    )
    assert told["message"] == "b-c is cut: the peer went away"
    assert (told["code"], told["link"], told["where"]) == ("link-cut", "b-c", "cid")
    assert blamed({}, Sounding(site="c"))["message"] == "site c does not answer"
