"""Make what manifests need of this machine: keys, certificates, configurations and data, from the testbed's state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dynamos.deploy import profiles
from dynamos.deploy.data import DEFAULT
from dynamos.deploy.kubernetes.buses import CONFIG_FILE, hub_config, knowledge_config, leaf_config
from dynamos.deploy.kubernetes.labels import SITE
from dynamos.deploy.kubernetes.plans import CONFIG, DRAIN, Plan, References, placed
from dynamos.deploy.kubernetes.volumes import held, too_large
from dynamos.deploy.provisioning import Grounds, certify
from dynamos.deploy.states import StateFolder
from dynamos.deploy.units import AUTHORITY, CERTIFICATE, EDGE, JWKS, KEY, SIGNER, Unit
from dynamos.jobs.pods.settings import PodsConfig
from dynamos.kit.errors import Mistakes
from dynamos.knowledge.leaves import remote_of, server_of
from dynamos.knowledge.permissions import ADMIN, API, ORCHESTRATOR
from dynamos.middleware.configs import AgentConfig
from dynamos.middleware.identity.tokens import DevelopmentIssuer
from dynamos.model.clusters import control_namespace, party_namespace
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.profiles import Profile

_IDENTITY = (CERTIFICATE, KEY, AUTHORITY)


def prepare(
    profile: Profile,
    folder: StateFolder,
    images: References,
    api_servers: tuple[tuple[str, int], ...],
    *,
    data: Path | None = None,
) -> Plan:
    """Give the plan of a profile that `validate` has found right. The same state gives the same plan.

    `folder` is the testbed's: keys are made there the first time, and renewed when their end comes near. `data` is
    where generated data go. Raises Mistakes for data that are missing or too large, and what `certify` raises.
    """
    marketplace = profiles.resolve(profile)
    folders = profiles.prepare(profile, data or DEFAULT / marketplace.name)
    folder.make()
    certify(Grounds(folder, profile, marketplace, 0, 0))
    brought = [name for name in marketplace.parties if name in folders and name not in profile.cluster.claims]
    read = {name: found for name in brought if (found := files_of(marketplace.parties[name], folders[name]))}
    files = _files(profile, marketplace, folder, images, read)
    plan = Plan(profile, marketplace, images, files, read, api_servers)
    if mistakes := too_large(plan):
        raise Mistakes(mistakes, subject=f"profile {profile.name}")
    return plan


def files_of(party: Party, folder: Path) -> dict[str, bytes]:
    """Give the files of a party's tables, by their paths in its folder: all of them where it names none."""
    if not party.data:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found: dict[str, bytes] = {}
    for tables in party.data.values():
        for source in tables.values():
            exact = folder / source.path
            paths = (
                [exact] if exact.is_file() else sorted(exact.rglob("*") if exact.is_dir() else folder.glob(source.path))
            )
            found |= {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}
    return found


def _files(
    profile: Profile, marketplace: Marketplace, folder: StateFolder, images: References,
    data: Mapping[str, Mapping[str, bytes]],
) -> dict[str, Mapping[str, str]]:  # fmt: skip
    """Give the texts that each unit is given."""
    shared = {
        JWKS: DevelopmentIssuer.load(folder.issuer).jwks.read_text(encoding="utf-8"),
        EDGE: _read(folder.unit(API) / CERTIFICATE),
        SIGNER: _read(folder.unit(ORCHESTRATOR) / CERTIFICATE),
    }
    found: dict[str, Mapping[str, str]] = {}
    for _, unit in placed(profile, marketplace):
        texts = {name: shared[name] if name in shared else _read(folder.unit(unit.name) / name) for name in unit.files}
        for other in unit.speaks_for:
            own = folder.unit(unit.name) / remote_of(other)
            texts |= {f"{remote_of(other)}/{name}": _read(own / name) for name in _IDENTITY}
        found[unit.name] = {**texts, **_config(profile, marketplace, unit, images, data)}
    admin = {name: _read(folder.unit(ADMIN) / name) for name in _IDENTITY}
    found[ADMIN] = {**admin, CONFIG: knowledge_config(profile, marketplace)}
    return found


def _config(
    profile: Profile, marketplace: Marketplace, unit: Unit, images: References, data: Mapping[str, Mapping[str, bytes]]
) -> dict[str, str]:
    """Give a unit's own configuration, by the name of its file."""
    if unit.role == "bus":
        return {CONFIG_FILE: hub_config(profile, marketplace)}
    if unit.role == "leaf":
        return {CONFIG_FILE: leaf_config(profile, marketplace, unit.name.removeprefix(server_of("")))}
    assert unit.config is not None, "a unit that is no server has a configuration"
    config = unit.config.model_copy(update={"drain": DRAIN})
    if isinstance(config, AgentConfig):
        pods = _pods(profile, config.name, images, data.get(config.name, {}))
        config = config.model_copy(update={"pods": pods})
    return {CONFIG: config.model_dump_json(by_alias=True, exclude_none=True)}


def _pods(profile: Profile, party: str, images: References, files: Mapping[str, bytes]) -> PodsConfig:
    """Give how a party's agent runs jobs."""
    claim, config_map = held(profile, party, files)
    site = profile.site_of(party)
    return PodsConfig(
        namespace=party_namespace(profile.name, party),
        testbed=control_namespace(profile.name),
        image=images.dynamos,
        courier=images.courier,
        warm=profile.cluster.warm_pods,
        claim=claim,
        config_map=config_map,
        node_selector={SITE: site} if site else {},
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
