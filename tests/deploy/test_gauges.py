"""Metrics of a node's units: what runs is up, what does not is not, and Prometheus reads it."""

import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dynamos.deploy import gauges
from dynamos.deploy.gauges import GaugesConfig


@pytest.fixture
def config(tmp_path):
    log = tmp_path / "logs" / "united"
    log.mkdir(parents=True)
    (log / "current").write_bytes(b"x" * 700)
    (log / "@4000.s").write_bytes(b"x" * 300)
    return GaugesConfig(("united", "delta"), tmp_path / "units", tmp_path / "logs", 0)


@pytest.fixture
def united(config):
    """A process with the words that a unit's have."""
    told = "print(flush=True); input()"
    argv = [sys.executable, "-c", told, str(config.folder / "united" / "config.json")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.stdin.close()


def values(text):
    return {
        (sample.name, sample.labels["unit"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_unit_with_a_process_is_up_and_tells_what_it_uses(config, united):
    found = values(gauges.text(config))
    assert found["dynamos_unit_up", "united"] == found["dynamos_unit_processes", "united"] == 1
    assert found["dynamos_unit_resident_bytes", "united"] > 1e6
    assert found["dynamos_unit_start_time_seconds", "united"] > 1.6e9
    assert found["dynamos_unit_log_bytes", "united"] == 1000


def test_a_unit_without_a_process_is_not_up(config, united):
    found = values(gauges.text(config))
    assert found["dynamos_unit_up", "delta"] == found["dynamos_unit_log_bytes", "delta"] == 0


def test_it_is_served_on_the_loopback_device_and_nothing_else_is(config):
    with gauges.server(config) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{served.server_port}"
        with urllib.request.urlopen(f"{at}/metrics", timeout=10) as answer:
            assert answer.headers["content-type"] == gauges.MEDIA_TYPE
            assert values(answer.read().decode())["dynamos_unit_up", "united"] == 0
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{at}/other", timeout=10)
        served.shutdown()
