"""Configurations of the cluster's programs: what is written into its machines, as values. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cluster.authorities import Pair
from cluster.specs import DNS_SERVICE, DOMAIN, ClusterSpec, Machine

FOLDER = "/etc/kubernetes"
CONTAINERD = "/run/containerd/containerd.sock"
PAUSE = "dynamos.local/pause:1"
POLICIES = "tests-policies"
"""The network plugin that waits until the rules of a pod are there."""
_PLUGINS = ("btrfs", "zfs", "aufs", "devmapper")


def kubeconfig(server: str, authority: bytes, user: str, pair: Pair) -> bytes:
    """Give a kubeconfig, as JSON, which is YAML too."""
    return _json(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "cluster",
            "clusters": [
                {"name": "cluster", "cluster": {"server": server, "certificate-authority-data": _base64(authority)}}
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _base64(pair.certificate),
                        "client-key-data": _base64(pair.key),
                    },
                }
            ],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": user}}],
        }
    )


def kubelet(machine: Machine) -> bytes:
    """Give a kubelet's configuration: what machines of version 1 groups and without much memory need said."""
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": machine.ip,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{FOLDER}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{FOLDER}/kubelet.crt",
            "tlsPrivateKeyFile": f"{FOLDER}/kubelet.key",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "enforceNodeAllocatable": ["pods"],
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": False,
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": DOMAIN,
            "resolvConf": "/etc/resolv.conf",
            "syncFrequency": "10s",
            "nodeStatusUpdateFrequency": "1s",
            "nodeLeaseDurationSeconds": 6,
            "shutdownGracePeriod": "0s",
        }
    )


def proxy(machine: Machine, spec: ClusterSpec) -> bytes:
    """Give kube-proxy's configuration. Limits of connection tracking are the whole kernel's, so that it sets none."""
    return _json(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": spec.pod_network,
            "hostnameOverride": machine.name,
            "bindAddress": machine.ip,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "clientConnection": {"kubeconfig": f"{FOLDER}/proxy.kubeconfig"},
            "conntrack": {
                "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
            },
            "nftables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
            "oomScoreAdj": 0,
        }
    )  # fmt: skip


def containerd() -> bytes:
    """Give containerd's configuration."""
    return f"""
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [{", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in _PLUGINS)},
    "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
""".encode()


def network(machine: Machine, spec: ClusterSpec) -> bytes:
    """Give the CNI list: each pod is joined to its node by a cable of its own, so that the node routes every packet,
    and addresses stay what they are from one end to the other."""
    ranges = [[{"subnet": machine.pods}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni"}
    return _json(
        {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {"type": "ptp", "ipMasq": False, "mtu": spec.mtu, "ipam": ipam},
                {"type": "portmap", "capabilities": {"portMappings": True}},
                {"type": POLICIES},
            ],
        }
    )


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
