"""Every file that is written into a cluster's machines: certificates and configurations, by machine and path."""

from __future__ import annotations

from cluster import configs
from cluster.authorities import Authority, key_pair
from cluster.commands import server_names
from cluster.policies.agents import USER as POLICY_AGENT
from cluster.readiness import USER as ADMIN
from cluster.specs import ClusterSpec, Machine
from cluster.volumes import USER as PROVISIONER

Files = dict[str, bytes]
ADMIN_FILES = ("ca.crt", "admin.crt", "admin.key", "kubeconfig", "inside.kubeconfig")


def files_of(spec: ClusterSpec, port: int) -> tuple[dict[str, Files], Files]:
    """Give the files of each machine by name, and those of the administrator, who reaches the API server at `port` of
    this machine, or from inside at its own address."""
    authority, front = Authority("cluster"), Authority("front")
    told = {spec.control.name: _control(spec, authority, front)}
    told |= {node.name: _node(spec, node, authority) for node in spec.nodes}
    admin = authority.issue(ADMIN, ["system:masters"])
    here, inside = (
        configs.kubeconfig(server, authority.certificate, ADMIN, admin)
        for server in (f"https://127.0.0.1:{port}", spec.api)
    )
    own = (authority.certificate, admin.certificate, admin.key, here, inside)
    return told, dict(zip(ADMIN_FILES, own, strict=True))


def _control(spec: ClusterSpec, authority: Authority, front: Authority) -> Files:
    server = authority.issue("kube-apiserver", names=server_names(spec))
    to_kubelets = authority.issue("api-server")
    front_client = front.issue("front")
    tokens = key_pair()
    volumes = authority.issue(PROVISIONER)
    users = {"controllers": "system:kube-controller-manager", "scheduler": "system:kube-scheduler"}
    return {
        "ca.crt": authority.certificate,
        "front.crt": front.certificate,
        "server.crt": server.certificate,
        "server.key": server.key,
        "to-kubelets.crt": to_kubelets.certificate,
        "to-kubelets.key": to_kubelets.key,
        "front-client.crt": front_client.certificate,
        "front-client.key": front_client.key,
        "tokens.pub": tokens.certificate,
        "tokens.key": tokens.key,
        f"{PROVISIONER}.crt": volumes.certificate,
        f"{PROVISIONER}.key": volumes.key,
        **{f"{file}.kubeconfig": _config(spec, authority, user) for file, user in users.items()},
    }


def _node(spec: ClusterSpec, node: Machine, authority: Authority) -> Files:
    kubelet = authority.issue(f"system:node:{node.name}", ["system:nodes"], [node.name, node.ip])
    own = configs.kubeconfig(spec.api, authority.certificate, f"system:node:{node.name}", kubelet)
    policies = authority.issue(POLICY_AGENT)
    return {
        f"{POLICY_AGENT}.crt": policies.certificate,
        f"{POLICY_AGENT}.key": policies.key,
        "ca.crt": authority.certificate,
        "kubelet.crt": kubelet.certificate,
        "kubelet.key": kubelet.key,
        "kubelet.kubeconfig": own,
        "proxy.kubeconfig": _config(spec, authority, "system:kube-proxy"),
        "kubelet.yaml": configs.kubelet(node),
        "proxy.yaml": configs.proxy(node, spec),
        "containerd.toml": configs.containerd(),
        "network.conflist": configs.network(node, spec),
    }


def _config(spec: ClusterSpec, authority: Authority, user: str) -> bytes:
    return configs.kubeconfig(spec.api, authority.certificate, user, authority.issue(user))
