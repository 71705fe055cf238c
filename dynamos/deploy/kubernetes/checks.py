"""Checks of a cluster before anything is made on it: everything that is in the way, at once. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dynamos.deploy.kubernetes.facts import Facts, Questions, Right
from dynamos.deploy.kubernetes.guards import KINDS
from dynamos.deploy.kubernetes.labels import OURS, PART_OF, SITE, TESTBED
from dynamos.deploy.kubernetes.parties import PRIORITIES, RULES
from dynamos.deploy.kubernetes.plans import References
from dynamos.kit.errors import Mistake
from dynamos.kit.words import suggest
from dynamos.model.clusters import control_namespace, party_namespace
from dynamos.model.marketplaces import Marketplace
from dynamos.model.profiles import Profile

OLDEST = (1, 30)
"""Older ones cannot have a pod wait a moment before it ends, which a request that is not lost needs."""
MOST_IMAGES = 50
"""As many images a node tells of; of more, it does not say whether it has them."""
AGENT_MEMORY = 2**30
_CORE = ("services", "secrets", "serviceaccounts")
_VERBS = ("create", "patch", "delete")
_SHOWN = 6
_ENCRYPT = {
    "cilium": "install Cilium with encryption.enabled=true and encryption.type=wireguard",
    "calico": 'kubectl patch felixconfiguration default --type=merge -p \'{"spec":{"wireguardEnabled":true}}\'',
}


def questions(profile: Profile, marketplace: Marketplace) -> Questions:
    """Give what has to be known of a cluster."""
    control = control_namespace(profile.name)
    parties = {party: party_namespace(profile.name, party) for party in marketplace.parties}
    rights = [Right(verb, "", "namespaces") for verb in _VERBS]
    rights += [Right(verb, "scheduling.k8s.io", "priorityclasses") for verb in _VERBS]
    guarded = [KINDS[profile.cluster.policies]] if profile.cluster.policies in KINDS else []
    rights += _rights(control, ("apps", "statefulsets"), ("policy", "poddisruptionbudgets"), *guarded)
    for namespace in parties.values():
        more = (("", "configmaps"), ("", "resourcequotas"), ("", "persistentvolumeclaims"),
                ("rbac.authorization.k8s.io", "roles"), ("rbac.authorization.k8s.io", "rolebindings"),
                *guarded)  # fmt: skip
        rights += _rights(namespace, *more)
        # Whoever gives a right must have it.
        rights += [
            Right(verb, rule["apiGroups"][0], resource, namespace)
            for rule in RULES for resource in rule["resources"] for verb in rule["verbs"]
        ]  # fmt: skip
    claims = [(parties[party], name) for party, name in profile.cluster.claims.items() if party in parties]
    priorities = [f"{control}-{name}" for name in PRIORITIES]
    return Questions(tuple(dict.fromkeys(rights)), (control, *parties.values()), priorities, claims)


def check(profile: Profile, marketplace: Marketplace, images: References, facts: Facts) -> list[Mistake]:
    """Give what keeps the profile from being put on the cluster, each with what to do."""
    return [
        *_version(facts),
        *_rights_lacking(facts),
        *_foreign(profile, facts),
        *_storage(profile, facts),
        *_sites(profile, facts),
        *_encryption(profile, facts),
        *_claims(profile, facts, {party_namespace(profile.name, name): name for name in marketplace.parties}),
        *_quota(profile),
        *_images(profile, images, facts),
    ]


def _rights(namespace: str, *more: tuple[str, str]) -> list[Right]:
    resources = [("", name) for name in _CORE]
    resources += [("apps", "deployments"), ("batch", "jobs"), ("networking.k8s.io", "networkpolicies"), *more]
    return [Right(verb, group, name, namespace) for group, name in resources for verb in _VERBS]


def _version(facts: Facts) -> Iterator[Mistake]:
    if facts.version < OLDEST:
        told, wanted = (".".join(map(str, each)) for each in (facts.version, OLDEST))
        yield Mistake("cluster", f"its version is {told}, and {wanted} is needed", "upgrade it, or take another")


def _rights_lacking(facts: Facts) -> Iterator[Mistake]:
    """Tell what we may not do, alike rights in several namespaces together."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for right in facts.refused:
        places.setdefault(right[:3], []).append(right.namespace)
    for (verb, group, resource), names in places.items():
        where = f" in {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}" if names[0] else ""
        hint = "have the cluster's owner permit it, or take a context that may"
        yield Mistake("cluster", f"we may not {Right(verb, group, resource)}{where}", hint)


def _foreign(profile: Profile, facts: Facts) -> Iterator[Mistake]:
    ours = {PART_OF: OURS, TESTBED: control_namespace(profile.name)}
    for kind, found in (("namespace", facts.namespaces), ("priority class", facts.priorities)):
        for name, labels in found.items():
            if any(labels.get(key) != value for key, value in ours.items()):
                hint = "give the profile another name; or, if it shall be ours, label it " + ",".join(
                    f"{key}={value}" for key, value in ours.items()
                )
                yield Mistake("$.name", f"there is a {kind} {name!r} that is somebody else's", hint)


def _storage(profile: Profile, facts: Facts) -> Iterator[Mistake]:
    wanted = profile.cluster.storage_class
    if Right("list", "storage.k8s.io", "storageclasses") in facts.refused:
        return
    known = f"known: {', '.join(sorted(facts.classes)) or 'none'}"
    if wanted and wanted not in facts.classes:
        hint = suggest(wanted, facts.classes) or known
        yield Mistake("$.cluster.storageClass", f"the cluster has no storage class {wanted!r}", hint)
    elif not wanted and not any(facts.classes.values()):
        hint = f"name one in cluster.storageClass ({known}), or make one the default"
        yield Mistake("$.cluster.storageClass", "the cluster has no default storage class", hint)


def _sites(profile: Profile, facts: Facts) -> Iterator[Mistake]:
    there = {node.site for node in facts.nodes if node.ready}
    for site in profile.sites.values():
        if (site.parties or site.name == profile.control_site) and site.name not in there:
            known = ", ".join(sorted(name for name in there if name)) or "none"
            hint = f"kubectl label node NODE {SITE}={site.name}; sites that have nodes: {known}"
            yield Mistake(f"$.sites.{site.name}", f"no node of the cluster is ready at site {site.name!r}", hint)
    if not there:
        yield Mistake("cluster", "no node of the cluster is ready", "kubectl get nodes")


def _encryption(profile: Profile, facts: Facts) -> Iterator[Mistake]:
    """Tell which nodes do not encrypt, where the profile wants that. We cannot make them: the network is the
    cluster's."""
    hint = _ENCRYPT.get(profile.cluster.policies)
    if profile.overlay.driver == "none" or hint is None:
        return
    if bare := sorted(node.name for node in facts.nodes if node.ready and not node.encrypts):
        names = f"{', '.join(bare[:_SHOWN])}{', …' if len(bare) > _SHOWN else ''}"
        yield Mistake("$.overlay.driver", f"what pods send leaves these nodes in the clear: {names}", hint)


def _claims(profile: Profile, facts: Facts, parties: dict[str, str]) -> Iterator[Mistake]:
    wanted = profile.cluster.claims
    for namespace, party in parties.items():
        if party in wanted and (namespace, wanted[party]) not in facts.claims:
            hint = "make it there first; the namespace too, with the labels of `dynamos manifests`"
            what = f"there is no claim {wanted[party]!r} in the namespace {namespace!r}"
            yield Mistake(f"$.cluster.claims.{party}", what, hint)


def _quota(profile: Profile) -> Iterator[Mistake]:
    quota, agents = profile.cluster.quota, profile.cluster.agents
    fewest = agents + 2
    if quota.pods is not None and quota.pods < fewest:
        what = f"{quota.pods} pods are too few: a party needs {fewest}, its agents, one more while they are replaced,"
        yield Mistake("$.cluster.quota.pods", f"{what} and one for a job", f"write at least {fewest}")
    if quota.memory is not None and quota.memory < (agents + 1) * AGENT_MEMORY:
        least = f"{agents + 1}GiB"
        what = f"{quota.memory} are too little for a party's agents, which may have 1GiB each while they are replaced"
        yield Mistake("$.cluster.quota.memory", what, f"write at least {least}, and what jobs need beside it")


def _images(profile: Profile, images: References, facts: Facts) -> Iterator[Mistake]:
    """Tell which images are missing on nodes that have to have them already."""
    if profile.cluster.registry:
        return
    sites = {site.name for site in profile.sites.values()}
    for image in (images.dynamos, images.courier, images.bus):
        lacking = [
            node.name
            for node in facts.nodes
            if node.ready and (not sites or node.site in sites) and len(node.images) < MOST_IMAGES
            and not any((image.partition("@")[2] and image.partition("@")[2] in name) or name == image
                        for name in node.images)
        ]  # fmt: skip
        if lacking:
            hint = "import it there, or name a registry in cluster.registry and push it; nodes tell late of new images"
            yield Mistake("$.cluster.registry", f"the image {image} is not on {', '.join(lacking[:_SHOWN])}", hint)
