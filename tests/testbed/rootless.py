"""Makes a small world as whoever runs it, and tells what came of it; exit code 3 where that is not allowed."""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from dynamos.kit.errors import Unavailable
from dynamos.testbed.worlds import World

with tempfile.TemporaryDirectory() as folder:
    try:
        world = World.create(Path(folder), "rootless")
    except Unavailable as error:
        print(error)
        sys.exit(3)
    try:
        one, other = world.node("one", "one"), world.node("other", "other")
        world.wire(one, "wan0", other, "wan0", 1500)
        for node, address in ((one, "198.18.0.1/24"), (other, "198.18.0.2/24")):
            node.run(["ip", "addr", "add", address, "dev", "wan0"])
        told = {
            "kind": world.kind,
            "lacks": world.lacks,
            "hostname": one.run(["hostname"]).text,
            "pinged": one.run(["ping", "-c1", "-W5", "198.18.0.2"], check=False).code,
            "links": one.container("box").run(["ip", "-br", "-o", "link"]).text and "1: lo:",
        }
        one.run(["sh", "-c", "rm -rf /usr/games; mkdir -p /usr/games; touch /etc/mine"])
        print(json.dumps(told))
    finally:
        world.kill()
