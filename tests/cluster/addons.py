"""What a cluster has from its beginning, as Kubernetes' objects: names, and what its own parts may do. Pure."""

from __future__ import annotations

from typing import Any

from cluster.images import COREDNS, USER
from cluster.policies.agents import USER as POLICY_AGENT
from cluster.specs import DNS_SERVICE, DOMAIN
from cluster.volumes import CLASS, NAME
from cluster.volumes import USER as PROVISIONER

Object = dict[str, Any]
SYSTEM = "kube-system"
_DNS_PORT = 53
"""As everywhere: policies see the port of the pod, and let names be found at this one."""
_COREFILE = f"""
.:{_DNS_PORT} {{
    errors
    health :8080
    ready :8181
    kubernetes {DOMAIN} in-addr.arpa {{
        pods insecure
    }}
    cache 5
}}
"""


def addons() -> list[Object]:
    """Give what the cluster's own parts may do, and the class of volumes, in the order in which they are made."""
    return [*_api_server(), *_storage(), *_policies()]


def names(nodes: int) -> list[Object]:
    """Give what answers for names: two pods where there are two nodes."""
    return _dns(min(2, nodes))


def bound(name: str, rules: list[Object], subject: Object) -> list[Object]:
    """Give a role of the whole cluster with these rules, and the subject that has it."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    return [
        _object("rbac.authorization.k8s.io/v1", "ClusterRole", name, rules=rules),
        _object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", name, roleRef=reference, subjects=[subject]),
    ]


def user(name: str) -> Object:
    """Give a subject that is who a certificate says."""
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}


def _api_server() -> list[Object]:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin"}
    subjects = [user("api-server")]
    name = "tests:api-server-to-kubelets"
    return [_object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", name, roleRef=reference, subjects=subjects)]


def _policies() -> list[Object]:
    seen = ["pods", "namespaces"]
    rules = [
        {"apiGroups": [""], "resources": seen, "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list", "watch"]},
    ]
    return bound("tests:policy-agent", rules, user(POLICY_AGENT))


def _storage() -> list[Object]:
    volumes = ["get", "list", "watch", "create", "delete"]
    rules = [
        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": volumes},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "list", "watch"]},
    ]
    made = _object(
        "storage.k8s.io/v1",
        "StorageClass",
        CLASS,
        provisioner=NAME,
        volumeBindingMode="WaitForFirstConsumer",
        reclaimPolicy="Delete",
    )
    made["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    return [made, *bound("tests:volume-provisioner", rules, user(PROVISIONER))]


def _dns(replicas: int) -> list[Object]:
    account = {"kind": "ServiceAccount", "name": "coredns", "namespace": SYSTEM}
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    labels = {"k8s-app": "kube-dns"}
    ports = [{"name": f"dns-{p.lower()}", "port": 53, "targetPort": _DNS_PORT, "protocol": p} for p in ("UDP", "TCP")]
    service = {"clusterIP": DNS_SERVICE, "selector": labels, "ports": ports}
    return [
        _object("v1", "ServiceAccount", "coredns", SYSTEM),
        *bound("tests:coredns", rules, account),
        _object("v1", "ConfigMap", "coredns", SYSTEM, data={"Corefile": _COREFILE}),
        _object("v1", "Service", "kube-dns", SYSTEM, spec=service, labels=labels),
        _object(
            "apps/v1",
            "Deployment",
            "coredns",
            SYSTEM,
            labels=labels,
            spec={
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": _dns_pod(labels)},
            },
        ),
    ]


def _dns_pod(labels: dict[str, str]) -> Object:
    apart = {
        "weight": 1,
        "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}},
    }
    return {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "seccompProfile": {"type": "RuntimeDefault"},
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "containers": [
            {
                "name": "coredns",
                "image": COREDNS,
                "imagePullPolicy": "IfNotPresent",
                "args": ["-conf", "/etc/coredns/Corefile"],
                "readinessProbe": {
                    "httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1, "failureThreshold": 60,
                },
                "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "initialDelaySeconds": 30},
                "resources": {"requests": {"memory": "20Mi", "cpu": "10m"}, "limits": {"memory": "170Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }  # fmt: skip


def _object(api: str, kind: str, name: str, namespace: str = "", **members: Any) -> Object:
    labels = members.pop("labels", {})
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels, **place}, **members}
