"""Measured transfers: what was sent arrives and is counted, with TLS only among those who trust each other."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from dynamos.experiments import traffic
from dynamos.kit.errors import JobFailed, NotFound
from dynamos.testbed.hosts import Completed
from support.identities import issue_all


class Here:
    """This machine as a host."""

    name = site = "here"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons = {}

    def run(self, argv, *, stdin=None, check=True, within=30.0):
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=within, check=False)
        if check and done.returncode:
            raise JobFailed(done.stderr.decode(errors="replace"))
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)

    def start(self, name, argv, *, env=None):
        argv = [word.replace('"/run/', f'"{self._folder}/') for word in argv]
        self._daemons[name] = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        return self._daemons[name].pid

    def stop(self, name):
        if process := self._daemons.pop(name, None):
            process.kill()
            process.wait()

    def put(self, path, content, *, mode=0o644): ...

    def get(self, path):
        try:
            return Path(path.replace("/run", str(self._folder), 1)).read_bytes()
        except FileNotFoundError:
            raise NotFound(path) from None


@pytest.fixture
def here(tmp_path):
    return Here(tmp_path)


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_what_was_sent_arrives_over_every_connection(here, port):
    with traffic.listening([here], port=port):
        sent = traffic.transfer(here, "127.0.0.1", streams=3, bytes=5_000_000, port=port)
        pings = traffic.round_trips(here, "127.0.0.1", count=20, interval=0, port=port)
    assert 5_000_000 <= sent.bytes < 5_000_000 + 3 * (1 << 16)
    assert len(sent.connect) == 3
    assert sent.goodput > 0
    assert sent.cpu > 0
    assert len(pings.times) == 20
    assert 0 < pings.quantile(0.5) <= pings.quantile(0.99)


def test_of_a_transfer_by_time_the_first_seconds_are_left_out_where_that_is_wished(here, port):
    with traffic.listening([here], port=port):
        sent = traffic.transfer(here, "127.0.0.1", seconds=0.3, settle=0.1, port=port)
    assert sent.seconds >= 0.3
    assert sent.settled > 0


def test_datagrams_are_counted(here, port):
    with traffic.listening([here], port=port):
        sent = traffic.flood(here, "127.0.0.1", rate=4e6, seconds=0.2, size=500, streams=2, port=port)
    assert sent.sent > 100
    assert sent.received <= sent.sent
    assert 0 <= sent.loss < 0.5


def test_tls_needs_both_sides_to_be_of_one_authority(here, port, tmp_path):
    ours = issue_all(tmp_path / "ours", "united", "registry")
    strangers = issue_all(tmp_path / "strangers", "united", "registry")
    with traffic.listening([here], tls=traffic.tls_of(ours["registry"]), port=port):
        good = traffic.tls_of(ours["united"], peer="registry")
        assert traffic.transfer(here, "127.0.0.1", bytes=1_000_000, tls=good, port=port).bytes >= 1_000_000
        for wrong in (
            traffic.tls_of(strangers["united"], peer="registry"),
            traffic.tls_of(ours["united"], peer="delta"),
        ):
            with pytest.raises(JobFailed, match="CERTIFICATE_VERIFY_FAILED"):
                traffic.transfer(here, "127.0.0.1", bytes=1000, tls=wrong, port=port)


def test_nobody_who_listens_is_told_as_such(here, port):
    began = time.monotonic()
    with pytest.raises(JobFailed, match="nobody listens"):
        traffic.transfer(here, "127.0.0.1", bytes=1000, port=port, patience=0.2)
    assert time.monotonic() - began < 10
