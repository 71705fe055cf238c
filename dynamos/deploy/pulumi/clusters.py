"""Components of a marketplace on a cluster, from the same manifests that `dynamos manifests` writes.

cluster = Cluster("cluster", ClusterArgs(profile.cluster))
market = Marketplace(profile.name, MarketplaceArgs(plan, cluster))
pulumi.export("api", market.api)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi import ComponentResource, ResourceOptions

from dynamos.deploy.kubernetes import gateways
from dynamos.deploy.kubernetes.clusters import context_of, kubeconfig_of
from dynamos.deploy.kubernetes.manifests import Group, objects
from dynamos.deploy.kubernetes.plans import Plan
from dynamos.deploy.pulumi.objects import resource, resources
from dynamos.deploy.pulumi.resources import after
from dynamos.knowledge.permissions import API
from dynamos.model import clusters

_TYPE = "dynamos:cluster:"


@dataclass(frozen=True, slots=True)
class ClusterArgs:
    """A cluster that exists, as the profile says how to reach it."""

    cluster: clusters.Cluster


class Cluster(ComponentResource):
    """A cluster that exists. It is never made, changed or removed: it is where the rest is made."""

    def __init__(self, name: str, args: ClusterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__(f"{_TYPE}Cluster", name, {}, opts)
        path = str(kubeconfig_of(args.cluster).resolve())
        context = context_of(args.cluster)
        self.provider = kubernetes.Provider(
            name, kubeconfig=path, context=context, enable_server_side_apply=True, opts=ResourceOptions(parent=self)
        )
        self.register_outputs({"context": context})


@dataclass(frozen=True, slots=True)
class PartArgs:
    """Objects that belong together, what they come `after`, and the namespace that they go with."""

    group: Group
    after: Sequence[pulumi.Resource] = ()
    within: pulumi.Resource | None = None
    needs: Sequence[pulumi.Resource] = ()
    """What only those objects come after that are neither keys nor data."""


class _Part(ComponentResource):
    """Objects that belong together. Keys and data come before what uses them."""

    made: list[pulumi.Resource]

    def __init__(self, kind: str, name: str, args: PartArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__(f"{_TYPE}{kind}", name, {}, opts)
        options = after(*args.after, parent=self, deleted_with=args.within)
        private = resources(args.group.private, options)
        following = after(*args.after, *args.needs, *private, parent=self, deleted_with=args.within)
        self.made = [*private, *resources(args.group.public, following)]
        self.register_outputs({"objects": len(self.made)})


class _Place(ComponentResource):
    """A namespace with what surrounds pods in it."""

    def __init__(self, kind: str, name: str, group: Group, opts: ResourceOptions | None = None) -> None:
        super().__init__(f"{_TYPE}{kind}", name, {}, opts)
        first, *rest = group.public
        self.space = resource(first, ResourceOptions(parent=self))
        inside = after(self.space, parent=self, deleted_with=self.space)
        outside = ResourceOptions(parent=self)
        self.made = [resource(each, inside if "namespace" in each["metadata"] else outside) for each in rest]
        self.namespace = first["metadata"]["name"]
        self.register_outputs({"namespace": self.namespace})

    @property
    def ready(self) -> list[pulumi.Resource]:
        """What has to be there before a pod is."""
        return [self.space, *self.made]


class Control(_Place):
    """The namespace of the bus, the orchestrator and the API, and what all of the marketplace shares."""

    def __init__(self, name: str, group: Group, opts: ResourceOptions | None = None) -> None:
        super().__init__("Control", name, group, opts)


class Party(_Place):
    """A party's namespace: how much it may have, who its agent is, and that everything else is shut."""

    def __init__(self, name: str, group: Group, opts: ResourceOptions | None = None) -> None:
        super().__init__("Party", name, group, opts)


class Bus(_Part):
    """The servers of the bus with their volumes, and its buckets and logs."""

    def __init__(self, name: str, args: PartArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("Bus", name, args, opts)


class Leaf(_Part):
    """A site's server of the bus."""

    def __init__(self, name: str, args: PartArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("Leaf", name, args, opts)


class Orchestrator(_Part):
    """The orchestrators."""

    def __init__(self, name: str, args: PartArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("Orchestrator", name, args, opts)


class DataVolume(_Part):
    """A party's data."""

    def __init__(self, name: str, args: PartArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("DataVolume", name, args, opts)


class Agent(_Part):
    """The agents of a party."""

    def __init__(self, name: str, args: PartArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("Agent", name, args, opts)


class Gateway(_Part):
    """The API, and the ways to it."""

    def __init__(self, name: str, args: PartArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("Gateway", name, args, opts)


@dataclass(frozen=True, slots=True)
class MarketplaceArgs:
    """A plan, and the cluster that it is put on."""

    plan: Plan
    cluster: Cluster


class Marketplace(ComponentResource):
    """A whole marketplace on a cluster."""

    def __init__(self, name: str, args: MarketplaceArgs, opts: ResourceOptions | None = None) -> None:
        options = ResourceOptions.merge(opts, ResourceOptions(providers={"kubernetes": args.cluster.provider}))
        super().__init__(f"{_TYPE}Marketplace", name, {}, options)
        self._plan = args.plan
        found, inside = objects(args.plan), ResourceOptions(parent=self)
        self.control = control = Control(name, found.control, inside)
        self.parties = {each.party: Party(f"{name}/{each.party}", each, inside) for each in found.parties}
        space = control.space

        def ours(group: Group, *others: pulumi.Resource) -> PartArgs:
            return PartArgs(group, (*control.ready, *others), space)

        self.bus = Bus(f"{name}/bus", ours(found.bus), inside)
        self.leaves = [Leaf(f"{name}/{each.name}", ours(each, *self.bus.made), inside) for each in found.leaves]
        hubs = [*self.bus.made, *(made for leaf in self.leaves for made in leaf.made)]
        self.orchestrator = Orchestrator(f"{name}/orchestrator", ours(found.orchestrator, *self.bus.made), inside)
        whole = Group("api", (*found.gateway.public, *found.api.public), found.api.private)
        self.gateway = Gateway(f"{name}/api", ours(whole, *self.bus.made), inside)
        # The engine writes all that it knows after every step: data come late, so that few steps carry them.
        late = [*hubs, *self.orchestrator.made, *self.gateway.made]
        self.data = {each.party: self._data(each, late, inside) for each in found.data}
        self.agents = {each.party: self._agent(each, hubs, inside) for each in found.agents}
        self.api = gateways.address(args.plan)
        self.register_outputs({"api": self.api})

    def outputs(self) -> dict[str, Any]:
        """Give what the stack exports."""
        cluster = self._plan.profile.cluster
        forward = f"kubectl -n {self.control.namespace} port-forward service/{API} 8080:{gateways.PORT}"
        return {
            "driver": "kubernetes",
            "namespaces": {
                "control": self.control.namespace,
                **{p: each.namespace for p, each in self.parties.items()},
            },
            "api": self.api,
            "reach": forward if cluster.ingress is None else self.api,
            "kubeconfig": str(kubeconfig_of(cluster).resolve()),
            "context": context_of(cluster),
        }

    def _data(self, group: Group, late: Sequence[pulumi.Resource], options: ResourceOptions) -> DataVolume:
        party = self.parties[group.party]
        args = PartArgs(group, [*party.ready, *late], party.space)
        return DataVolume(f"{self._name}/{group.party}", args, options)

    def _agent(self, group: Group, hubs: Sequence[pulumi.Resource], options: ResourceOptions) -> Agent:
        party, data = self.parties[group.party], self.data.get(group.party)
        args = PartArgs(group, [*party.ready, *self.control.made], party.space, [*hubs, *(data.made if data else ())])
        return Agent(f"{self._name}/{group.party}", args, options)
