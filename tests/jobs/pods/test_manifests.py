"""What a job's pod is asked to be."""

from __future__ import annotations

import json
from typing import Any

from dynamos.jobs.pods import manifests
from dynamos.jobs.pods.passes import Pass
from dynamos.jobs.pods.settings import LAUNCHER, Home
from dynamos.jobs.pods.shapes import Shape, Slot
from support.pods import config

HOME = Home("UVA", "agent-0", "1234")
SHAPE = Shape((Slot("dynamos", data=True), Slot("other", python=False)))


def _pod(**changed: Any) -> dict[str, Any]:
    return manifests.pod("job-1", SHAPE, HOME, config(**changed), pool="cold", seconds=61.5)


def test_every_container_is_confined() -> None:
    spec = _pod()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
    for container in spec["containers"]:
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"] is True
        assert confined["allowPrivilegeEscalation"] is False
        assert confined["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_the_cluster_ends_it_where_nobody_else_does() -> None:
    pod = _pod()
    assert pod["spec"]["activeDeadlineSeconds"] == 62
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "agent-0", "1234")


def test_only_steps_that_read_data_have_the_volume_and_cannot_write_it() -> None:
    courier, reader, other = _pod()["spec"]["containers"]
    mounted = [{m["name"] for m in container["volumeMounts"]} for container in (courier, reader, other)]
    assert ["data" in names for names in mounted] == [False, True, False]
    (mount,) = [m for m in reader["volumeMounts"] if m["name"] == "data"]
    assert mount["readOnly"] is True


def test_only_the_courier_has_credentials_and_they_are_of_this_pod() -> None:
    made = manifests.secret("job-1", Pass.fresh("job-1"), HOME, config())
    assert made["metadata"]["name"] == "job-1"
    assert made["immutable"] is True
    assert set(made["data"]) == {"tls.crt", "tls.key", "agent.crt"}
    courier, *steps = _pod()["spec"]["containers"]
    assert "pass" in {m["name"] for m in courier["volumeMounts"]}
    assert all("pass" not in {m["name"] for m in step["volumeMounts"]} for step in steps)
    assert all("env" not in step for step in steps)


def test_a_step_sees_no_other_steps_folder() -> None:
    _, *steps = _pod()["spec"]["containers"]
    for number, step in enumerate(steps, 1):
        shared = [m for m in step["volumeMounts"] if m["name"] == "dynamos"]
        launcher = set() if step["image"] == "dynamos" else {"bin"}
        assert {m["subPath"] for m in shared} == {f"steps/{number}", f"steps/{number}/shm"} | launcher


def test_our_own_steps_start_before_the_courier_and_wait_for_nothing_to_be_brought() -> None:
    ours = Shape((Slot("dynamos", data=True), Slot("dynamos")))
    pod = manifests.pod("job-1", ours, HOME, config(), pool="cold", seconds=61.5)
    *steps, courier = pod["spec"]["containers"]
    assert courier["name"] == manifests.COURIER
    assert "lifecycle" not in courier
    assert {step["command"][0] for step in steps} == {LAUNCHER}
    assert all(m["name"] != "dynamos" or m.get("readOnly") or m["mountPath"] == "/dev/shm"
               for step in steps for m in step["volumeMounts"])  # fmt: skip


def test_steps_of_others_images_start_when_the_courier_has_brought_what_they_begin_with() -> None:
    courier, ours, other = _pod()["spec"]["containers"]
    assert courier["name"] == manifests.COURIER
    assert courier["lifecycle"]["postStart"]["exec"]["command"] == ["/courier", "ready"]
    assert (ours["command"][0], other["command"][0]) == (LAUNCHER, "/dynamos/bin/launch")


def test_a_config_map_can_be_the_volume() -> None:
    volumes = _pod(claim="", config_map="rows")["spec"]["volumes"]
    assert {"name": "data", "configMap": {"name": "rows"}} in volumes


def test_shapes_that_differ_have_other_keys() -> None:
    shapes = [SHAPE, Shape(SHAPE.slots[:1]), Shape((Slot("dynamos"),)), Shape((Slot("dynamos", memory=1),))]
    assert len({shape.key for shape in shapes}) == len(shapes)


def test_two_passes_have_nothing_in_common() -> None:
    one, other = Pass.fresh("job-1"), Pass.fresh("job-1")
    assert not set(one.files().values()) & set(other.files().values())
    assert one.agent[1] not in one.files().values()
    assert "PRIVATE KEY" not in repr(one) + json.dumps(str(one))
