"""Answers of a cluster are decoded by several threads at once, in a process that has decoded none before."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("lightkube")
PROGRAM = """
import sys, threading
from dynamos.deploy.kubernetes import clusters
from lightkube.core.decoders import decode_object, decode_status
sys.setswitchinterval(1e-6)
together = threading.Barrier(8)
clusters.acquaint()
def decode(number):
    together.wait()
    decode_object(b'{"spec": {}, "status": {"allowed": true}}', clusters.SelfSubjectAccessReview)
    decode_status(b'{"code": 403, "details": {"causes": [{"reason": "none"}]}}')
    done.append(number)
done = []
threads = [threading.Thread(target=decode, args=(number,)) for number in range(8)]
for each in threads: each.start()
for each in threads: each.join()
print(len(done))
"""


def test_threads_that_are_the_first_to_decode_do_not_crash_the_process() -> None:
    for _ in range(3):  # without it most of such processes crash, not all
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, "8"), done.stderr
