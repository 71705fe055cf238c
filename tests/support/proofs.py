"""Overlays as the wanted state has them, of networks that a lab has made."""

from __future__ import annotations

from dynamos.testbed.items import Overlay, Seat
from dynamos.testbed.proofs.policies import Situation


def overlay_of(network, members, driver):
    """Give the item of a network."""
    seats = tuple(
        Seat(container=each.name, node=each.gateway.name, underlay=each.underlay, address=each.address)
        for each in members
    )
    return Overlay(
        name=network.name,
        driver=driver,
        scope="request",
        number=network.number,
        subnet=network.subnet,
        mtu=network.mtu,
        options=dict(network.options),
        seats=seats,
    )


def situation_of(lab, *live, **more):
    """Give what the networks of a lab are meant to be, with these overlays."""
    containers = {name: box.site for name, box in lab.containers.items()}
    places = {f"node {site}": address for site, address in lab.underlays.items()}
    return Situation(containers=containers, live=live, places=places, **more)
