"""A real Kubernetes cluster on this machine, for tests and for trying things out.

It needs root, Debian's packages of `make packages`, and the programs that `make cluster` builds. Everything of it lives
in namespaces below one process: nothing of the machine's own network is changed, and its end leaves nothing but logs.

    python -m tests.cluster up                             two nodes at one place; kubeconfig in .dynamos/cluster
    python -m tests.cluster up --profile profiles/X.yaml   the sites, nodes and links of a profile, with their delays
    python -m tests.cluster load image.tar                 an image for every node (OCI layout or docker archive)
    python -m tests.cluster kubectl get pods -A
    python -m tests.cluster enter -- curl http://10.96.1.2 a command in the network of a node
    python -m tests.cluster kill hub-1                     a node loses its power; start hub-1 gives it back
    python -m tests.cluster down
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.clusters import Cluster
from cluster.layouts import REPOSITORY
from cluster.specs import profile_of
from dynamos.kit.errors import DynamosError, NotFound


def main() -> int:
    asked = _arguments()
    try:
        return int(_DOES[asked.verb](asked) or 0)
    except DynamosError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit


def _up(asked: argparse.Namespace) -> None:
    begun = time.monotonic()
    if asked.profile:
        from dynamos.deploy.profiles import load  # noqa: PLC0415

        profile = load(asked.profile)
    else:
        profile = profile_of(nodes=asked.nodes, name="cluster")
    cluster = Cluster.up(asked.folder, profile)
    print(f"ready after {time.monotonic() - begun:.1f} s: {', '.join(node.name for node in cluster.spec.nodes)}")
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _down(asked: argparse.Namespace) -> None:
    if cluster := Cluster.find(asked.folder):
        cluster.down()
    print("there is no cluster any more")


def _status(asked: argparse.Namespace) -> None:
    cluster = _found(asked)
    for machine in cluster.spec.machines:
        box = cluster.box(machine.name)
        state = "up" if box.alive else "down"
        print(f"{machine.name:20} {machine.site:12} {machine.ip:15} {machine.pods or 'no pods':18} {state}")
    print(f"kubeconfig: {cluster.kubeconfig}")


def _load(asked: argparse.Namespace) -> None:
    for archive in asked.archives:
        print("\n".join(_found(asked).load(archive)))


def _enter(asked: argparse.Namespace) -> int:
    words = asked.words[1:] if asked.words[:1] == ["--"] else asked.words
    return _found(asked).entered(words or ["bash"], asked.node)


def _kubectl(asked: argparse.Namespace) -> int:
    import subprocess  # noqa: PLC0415

    cluster = _found(asked)
    argv = [str(cluster.programs / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", *asked.words]
    return subprocess.run(argv, check=False).returncode


def _fault(asked: argparse.Namespace) -> None:
    cluster = _found(asked)
    {"kill": cluster.kill, "start": cluster.start, "partition": cluster.partition, "heal": cluster.heal}[asked.verb](
        asked.machine
    )


def _found(asked: argparse.Namespace) -> Cluster:
    cluster = Cluster.find(asked.folder)
    if cluster is None:
        raise NotFound("there is no cluster", where=str(asked.folder), hint="python -m tests.cluster up")
    return cluster


_DOES = {
    "up": _up, "down": _down, "status": _status, "load": _load, "enter": _enter, "kubectl": _kubectl,
    "kill": _fault, "start": _fault, "partition": _fault, "heal": _fault,
}  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".dynamos" / "cluster", help="where its files are")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="bring it up and wait until it is ready")
    up.add_argument("--profile", type=Path, help="take the sites, nodes and links of this profile")
    up.add_argument("--nodes", type=int, default=2, help="how many nodes, where no profile says it")
    verbs.add_parser("down", help="end it, and leave nothing")
    verbs.add_parser("status", help="tell its machines")
    load = verbs.add_parser("load", help="import images into every node, and tell their names")
    load.add_argument("archives", type=Path, nargs="+")
    enter = verbs.add_parser("enter", help="run a command of this machine in the network of a node")
    enter.add_argument("--node", default="", help="which machine; else the first node")
    enter.add_argument("words", nargs=argparse.REMAINDER)
    kubectl = verbs.add_parser("kubectl", help="run kubectl with every right")
    kubectl.add_argument("words", nargs=argparse.REMAINDER)
    for verb, told in (
        ("kill", "a machine loses its power"), ("start", "it gets it back"),
        ("partition", "a machine is cut off from its site"), ("heal", "it is joined again"),
    ):  # fmt: skip
        verbs.add_parser(verb, help=told).add_argument("machine")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
