"""How an agent in a cluster runs jobs: what it is told of its namespace, images and volume, and which pod it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from dynamos.jobs.specs import PROGRAMS
from dynamos.model.units import Duration
from dynamos.model.values import Name, Value

PORT = 7070
"""Where couriers listen."""
LAUNCHER = "/usr/lib/dynamos/launch"
"""Where our own image has the program that containers of steps begin with. Other images get it from the courier."""
ROLE, POOL, AGENT, SHAPE = "dynamos.dev/role", "dynamos.dev/pool", "dynamos.dev/agent", "dynamos.dev/shape"


class PodsConfig(Value):
    """An agent in a cluster: jobs run as pods of `namespace`, labelled with `testbed`.

    `image` is of our Python services, `courier` of what joins a pod's containers. An empty `kubeconfig` takes the pod's
    own service account. At most `warm` pods of one shape wait for jobs, none longer than `warm_for`. `claim` or
    `config_map` names the volume with the party's data, which the agent has at its own data folder, and steps at
    `data_at`. A step has at most `cores`. `scheduling` is for how long a pod may find no room in the cluster. At most
    `starts` pods start at once. `user` is who runs in pods, `programs` the module that finds our services.
    """

    namespace: str
    testbed: Name
    image: str
    courier: str
    kubeconfig: str = ""
    warm: int = Field(default=2, ge=0)
    warm_for: Duration = Duration.parse("1h")
    claim: str = ""
    config_map: str = ""
    node_selector: dict[str, str] = Field(default_factory=dict)
    cores: float = Field(default=2.0, gt=0)
    scheduling: Duration = Duration.parse("20s")
    starts: int = Field(default=6, ge=1)
    user: int = Field(default=65532, ge=1)
    programs: str = PROGRAMS
    data_at: str = "/data"

    @model_validator(mode="after")
    def _one_volume(self) -> Self:
        if self.claim and self.config_map:
            raise ValueError("data is in a claim or in a config map, not in both")
        return self


@dataclass(frozen=True, slots=True)
class Home:
    """Whose pods they are: a party's, and of one agent's pod, with which they go. Without `uid` nobody owns them.

    `address` is where the agent hears that a pod is up; without one only the cluster tells.
    """

    party: str
    pod: str = ""
    uid: str = ""
    address: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """What every object of this agent has, and no other agent's."""
        return {"app.kubernetes.io/part-of": "dynamos", "app.kubernetes.io/managed-by": "dynamos-agent",
                "dynamos.dev/party": self.party, ROLE: "job", AGENT: self.uid or self.pod}  # fmt: skip

    @property
    def owners(self) -> list[dict[str, object]]:
        """The agent's pod, as the owner of what goes when it goes."""
        owner = {"apiVersion": "v1", "kind": "Pod", "name": self.pod, "uid": self.uid, "blockOwnerDeletion": False}
        return [owner] if self.uid else []
