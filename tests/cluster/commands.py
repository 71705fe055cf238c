"""The command lines of the cluster's programs. Pure."""

from __future__ import annotations

from pathlib import Path

from cluster.configs import CONTAINERD, FOLDER
from cluster.specs import API_PORT, API_SERVICE, SERVICES, SITE_LABEL, ClusterSpec, Machine

ETCD = "http://127.0.0.1:2379"
_GROUPS = """for group in /sys/fs/cgroup/*/cgroup.procs; do echo 0 > "$group"; done; exec unshare --cgroup -- "$@" """


def grouped(*words: str) -> list[str]:
    """Give the command that runs another with the machine's control groups as the only ones that it sees."""
    return ["sh", "-ec", _GROUPS, "grouped", *words]


def etcd(programs: Path) -> list[str]:
    """Give etcd's. It keeps everything in memory, and what it keeps ends with the cluster."""
    return [
        str(programs / "etcd"), "--name=control", "--data-dir=/run/etcd", "--unsafe-no-fsync",
        f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}", "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=control=http://127.0.0.1:2380",
        "--heartbeat-interval=100", "--election-timeout=500", "--log-level=warn",
    ]  # fmt: skip


def api_server(programs: Path, spec: ClusterSpec) -> list[str]:
    """Give the API server's."""
    return [
        str(programs / "kube-apiserver"), f"--etcd-servers={ETCD}", f"--advertise-address={spec.control.ip}",
        f"--secure-port={API_PORT}", f"--service-cluster-ip-range={SERVICES}", "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction", "--anonymous-auth=false", "--allow-privileged=true",
        f"--client-ca-file={FOLDER}/ca.crt", f"--tls-cert-file={FOLDER}/server.crt",
        f"--tls-private-key-file={FOLDER}/server.key", f"--kubelet-certificate-authority={FOLDER}/ca.crt",
        f"--kubelet-client-certificate={FOLDER}/to-kubelets.crt", f"--kubelet-client-key={FOLDER}/to-kubelets.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={FOLDER}/tokens.pub", f"--service-account-signing-key-file={FOLDER}/tokens.key",
        f"--requestheader-client-ca-file={FOLDER}/front.crt", "--requestheader-allowed-names=front",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User", f"--proxy-client-cert-file={FOLDER}/front-client.crt",
        f"--proxy-client-key-file={FOLDER}/front-client.key", "--profiling=false",
        "--default-not-ready-toleration-seconds=2", "--default-unreachable-toleration-seconds=2",
    ]  # fmt: skip


def controller_manager(programs: Path) -> list[str]:
    """Give the controller manager's. At the default rates it starts its controllers seconds late."""
    return [
        str(programs / "kube-controller-manager"), f"--kubeconfig={FOLDER}/controllers.kubeconfig",
        "--leader-elect=false", "--use-service-account-credentials", "--bind-address=127.0.0.1",
        f"--root-ca-file={FOLDER}/ca.crt", f"--service-account-private-key-file={FOLDER}/tokens.key",
        "--kube-api-qps=300", "--kube-api-burst=500", "--node-monitor-period=1s", "--node-monitor-grace-period=6s",
        "--controllers=*,-nodeipam,-node-route-controller,-cloud-node-lifecycle-controller",
        "--concurrent-gc-syncs=10", "--profiling=false", f"--authentication-kubeconfig={FOLDER}/controllers.kubeconfig",
        f"--authorization-kubeconfig={FOLDER}/controllers.kubeconfig",
    ]  # fmt: skip


def scheduler(programs: Path) -> list[str]:
    """Give the scheduler's."""
    return [
        str(programs / "kube-scheduler"), f"--kubeconfig={FOLDER}/scheduler.kubeconfig", "--leader-elect=false",
        "--bind-address=127.0.0.1", "--kube-api-qps=300", "--kube-api-burst=500",
        f"--authentication-kubeconfig={FOLDER}/scheduler.kubeconfig",
        f"--authorization-kubeconfig={FOLDER}/scheduler.kubeconfig", "--profiling=false",
    ]  # fmt: skip


def containerd() -> list[str]:
    """Give containerd's."""
    return grouped("containerd", "--config", f"{FOLDER}/containerd.toml", "--log-level", "warn")


def ctr(*words: str) -> list[str]:
    """Give the command that asks containerd for something that concerns the kubelet's images."""
    return ["ctr", "--address", CONTAINERD, "--namespace", "k8s.io", *words]


def kubelet(programs: Path, machine: Machine) -> list[str]:
    """Give a kubelet's."""
    return grouped(
        str(programs / "kubelet"), f"--config={FOLDER}/kubelet.yaml", f"--kubeconfig={FOLDER}/kubelet.kubeconfig",
        f"--hostname-override={machine.name}", f"--node-ip={machine.ip}", f"--node-labels={SITE_LABEL}={machine.site}",
        "--root-dir=/var/lib/kubelet",
    )  # fmt: skip


def proxy(programs: Path) -> list[str]:
    """Give kube-proxy's."""
    return [str(programs / "kube-proxy"), f"--config={FOLDER}/proxy.yaml"]


def server_names(spec: ClusterSpec) -> list[str]:
    """Give every name and address that the API server answers to."""
    service = [f"kubernetes{end}" for end in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
    return ["127.0.0.1", "localhost", spec.control.ip, API_SERVICE, spec.control.name, *service]
