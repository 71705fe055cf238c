"""Beds: what a trial works on: a marketplace that can be asked, the networks under it, and ways to disturb both."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dynamos.deploy.forks import end_group
from dynamos.deploy.provisioning import CONFIG, token_for
from dynamos.deploy.states import StateFolder, TestbedStatus, UnitStatus
from dynamos.experiments import answers
from dynamos.experiments.amendments import Agreements, admin_of
from dynamos.experiments.answers import Answer
from dynamos.experiments.happenings import Event, happening
from dynamos.kit.errors import NotFound, Unavailable
from dynamos.kit.words import suggest
from dynamos.middleware.clients import Api
from dynamos.model.profiles import Profile

if TYPE_CHECKING:
    from dynamos.testbed.proofs.subjects import Subject
    from dynamos.testbed.wans import Wan
    from dynamos.testbed.worlds import World


class Skipped(Exception):
    """This trial cannot be made here; the reason is kept."""


class Bed:
    """What one trial gets: a marketplace to ask, networks to use, and a place to keep raw readings."""

    def __init__(
        self,
        profile: Profile,
        *,
        scratch: Path,
        api: str = "",
        token: Callable[[str], str] = lambda _: "",
        state: StateFolder | None = None,
        world: Path | None = None,
        journals: Path | None = None,
    ) -> None:
        self.profile = profile
        self.scratch = scratch
        """An empty folder of this trial's own."""
        self.state = state
        self.journals = journals or scratch
        """The folder that keeps what is to be mended after this trial, for whoever comes after it if it is killed."""
        self.answers: list[Answer] = []
        """What was asked so far; the engine keeps their stages."""
        self.samples: dict[str, list[float]] = {}
        self.happened: list[dict[str, Any]] = []
        """Which faults and amendments happened, and when; the engine keeps them."""
        self._address = api
        self._token = token
        self._world = world
        self._lock = threading.Lock()

    @classmethod
    def attach(cls, profile: Profile, state: StateFolder, scratch: Path) -> Bed:
        """Give a bed on a testbed of this machine that is up. Raises Unavailable where it is not."""
        status = state.read_status()
        if status is None or not state.is_held():
            raise Unavailable(f"the testbed {state.root.name!r} is not up", where=str(state.root), hint="dynamos up")
        world = state.world if profile.driver == "namespaces" else None
        return cls(
            profile,
            scratch=scratch,
            api=status.api,
            token=lambda user: token_for(state, user),
            state=state,
            world=world,
        )

    # Asking

    def api(self, user: str = "") -> Api:
        """Give a client of the HTTP API with that user's token; close it after use."""
        if not self._address:
            raise Unavailable("there is no marketplace on this bed", hint='needs="marketplace"')
        return Api(self._address, token=self._token(user))

    def ask(
        self,
        user: str,
        providers: Sequence[str],
        query: str,
        *,
        algorithm: str = "",
        columns: Mapping[str, str] | None = None,
        archetype: str = "",
        compute: str = "",
        aggregate: bool = False,
        anonymize: bool = False,
        deadline: str = "",
        type: str = "sqlDataRequest",  # noqa: A002  the request's own word
        keep: bool = True,
    ) -> Answer:
        """Send a request and read all of its results. What went wrong is in the answer, not raised."""
        body: dict[str, Any] = {
            "type": type,
            "user": {"userName": user},
            "providers": list(providers),
            "query": query,
            "options": {"aggregate": aggregate, "anonymize": anonymize},
        }
        more = {
            "algorithm": algorithm,
            "algorithmColumns": dict(columns or {}),
            "archetype": archetype,
            "computeProvider": compute,
            "deadline": deadline,
        }
        return self.send(user, body | {name: value for name, value in more.items() if value}, keep=keep)

    def send(self, user: str, body: Mapping[str, Any], *, keep: bool = True) -> Answer:
        """Send a request as it is. With `keep` false its rows are counted and hashed, and not kept."""
        answer = answers.ask(lambda: self.api(user), body, keep=keep)
        with self._lock:
            self.answers.append(answer)
        return answer

    def together(self, work: Callable[[int], Answer], many: int, *, gap: float = 0.0) -> list[Answer]:
        """Do the work so often at once, each a `gap` in seconds after the one before, and give all answers."""

        def begin(number: int) -> Answer:
            if gap:
                time.sleep(gap * number)
            return work(number)

        with ThreadPoolExecutor(many) as pool:
            return list(pool.map(begin, range(many)))

    def plainly(self, query: str, parties: Sequence[str], table: str) -> list[tuple[Any, ...]]:
        """Give what plain DuckDB answers to a query over the union of the parties' files of that table."""
        import duckdb  # noqa: PLC0415  heavy

        files = ", ".join(f"'{self.file(party, table)}'" for party in parties)
        with duckdb.connect() as engine:
            engine.execute(f'CREATE VIEW "{table}" AS SELECT * FROM read_parquet([{files}])')  # noqa: S608
            return engine.execute(query).fetchall()

    def file(self, party: str, table: str) -> Path:
        """Give the Parquet file in which a party of this machine's testbed holds a table."""
        config = json.loads((self._state().unit(party) / CONFIG).read_bytes())
        return Path(config["data"]) / f"{table}.parquet"

    # Networks

    @property
    def subject(self) -> Subject:
        """The testbed with its networks, as proofs take it. Raises Unavailable where it has none."""
        from dynamos.testbed.proofs.subjects import Subject  # noqa: PLC0415  Linux only

        if self._world is None:
            raise Unavailable(f"the testbed {self.profile.name!r} has no networks of its own", hint="three-sites has")
        return Subject.find(self.profile, self._world)

    @property
    def world(self) -> World:
        return self.subject.world

    @property
    def wan(self) -> Wan:
        return self.subject.wan

    # Disturbing

    def status(self) -> TestbedStatus:
        """Give what the testbed's supervisor says now. Raises Unavailable where this machine runs none."""
        status = self._state().read_status()
        if status is None:
            raise Unavailable("the testbed says nothing of itself", where=str(self._state().root))
        return status

    def unit(self, name: str) -> UnitStatus:
        """Give one unit of the testbed as it is now. Raises NotFound."""
        units = {unit.name: unit for unit in self.status().units}
        if name not in units:
            raise NotFound(f"there is no unit {name!r}", hint=suggest(name, units) or ", ".join(units))
        return units[name]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a unit and to what it started, as a crash would. Its supervisor starts it again."""
        unit = self.unit(name)
        if unit.pid:
            end_group(unit.pid, number)

    @contextmanager
    def happening(self, events: Iterable[Event]) -> Iterator[None]:
        """Let faults and amendments happen at their moments from now on; whatever they did is mended at the end."""
        agreements = Agreements(lambda party: self.api(admin_of(self.profile, party)), self.journals)
        with happening(events, lambda: self.wan, agreements, self.journals, self.happened.append):
            yield

    # Keeping

    def sample(self, name: str, *values: float) -> None:
        """Keep raw readings behind a measure."""
        with self._lock:
            self.samples.setdefault(name, []).extend(map(float, values))

    def skip(self, reason: str) -> NoReturn:
        """End this trial: it cannot be made here, for this reason."""
        raise Skipped(reason)

    def _state(self) -> StateFolder:
        if self.state is None:
            raise Unavailable("this marketplace is not of this machine", hint="take the local testbed")
        return self.state
