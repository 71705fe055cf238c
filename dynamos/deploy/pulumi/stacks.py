"""Stacks: profiles provisioned with the real engine, through Pulumi's Automation API.

`dynamos stack` and `cd infra && pulumi up` work on the same stacks with the same state, where both are told the same
backend: by default `file://<state>/stacks?metadata=skip`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pulumi import automation
from pulumi.automation.errors import CommandError, ConcurrentUpdateError, StackNotFoundError
from semver import VersionInfo

from dynamos.deploy import places, profiles
from dynamos.deploy.pulumi.engines import Engine, checkout, find_engine
from dynamos.deploy.pulumi.steps import Listener, Step
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import BadInput, Conflict, DynamosError, JobFailed, NotFound, TimedOut
from dynamos.testbed.locks import locked
from dynamos.testbed.worlds import World

Told = Callable[[Step], None]
_LOCK_SECONDS = 1.0
_PLAIN_FILES = "?metadata=skip"
"""Without files beside the state that an engine which is killed leaves half written, so that it cannot be read."""
_SHOWN = 30
_NAME = re.compile(r"^name:\s*(\S+)", re.MULTILINE)
_STACK = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an operation: how many resources of each action, each step that changed something, and after `up`
    what the stack exports; secrets are not shown."""

    stack: str
    counts: dict[str, int]
    steps: tuple[Step, ...]
    outputs: dict[str, Any]

    @property
    def changed(self) -> bool:
        """Whether anything differed."""
        return any(count for action, count in self.counts.items() if action != "same")

    def as_json(self) -> dict[str, Any]:
        """Give it for programs."""
        steps = [step.as_json() for step in self.steps]
        return {"stack": self.stack, "changes": self.counts, "steps": steps, "outputs": self.outputs}


class Stack:
    """The stack of a profile, which has the profile's name. `state` is the folder of all testbeds' state."""

    def __init__(self, profile: str, state: Path, *, engine: Engine | None = None) -> None:
        self._profile = profile
        self._state = state.resolve()
        self._engine = engine or find_engine()

    def up(self, told: Told = lambda _: None) -> Outcome:
        """Make what there is into what the profile says.

        Raises Mistakes before anything is made, Conflict where somebody works on the stack, and JobFailed with what the
        engine says; the next `up` goes on from there.
        """
        return self._work(told, "up", self._checked())

    def preview(self, told: Told = lambda _: None) -> Outcome:
        """Tell what `up` would do, and do nothing. Raises as `up` does."""
        return self._work(told, "preview", self._checked())

    def refresh(self, told: Told = lambda _: None) -> Outcome:
        """Look at what there is and write it into the stack's state, so that the next `up` mends what was lost.

        Raises NotFound where there is no such stack.
        """
        return self._work(told, "refresh", self._name())

    def destroy(self, told: Told = lambda _: None) -> Outcome:
        """Remove everything of the stack, and the stack. Raises NotFound where there is none."""
        return self._work(told, "destroy", self._name())

    def outputs(self) -> dict[str, Any]:
        """Give what the stack exports; secrets are not shown. Raises NotFound where there is no such stack."""
        name = self._name()
        with _explained(name, Listener(lambda _: None)):
            return _plain(self._open(name, new=False).outputs())

    def _work(self, told: Told, verb: str, name: str) -> Outcome:
        listener = Listener(told)
        with self._held(name), _explained(name, listener):
            stack = self._open(name, new=verb in ("up", "preview"))
            self._unlock(stack)
            options: dict[str, Any] = {"on_event": listener, "color": "never"}
            options |= {"suppress_outputs": True} if verb != "preview" else {}
            options |= {"clear_pending_creates": True} if verb == "refresh" else {}
            if verb == "up" and (stack.export_stack().deployment or {}).get("pending_operations"):
                # What an engine that was killed had begun is looked at: it may be there, unknown to the state.
                stack.refresh(clear_pending_creates=True, color="never", suppress_outputs=True)
            done = getattr(stack, verb)(**options)
            outputs = _plain(done.outputs) if verb == "up" else {}
            if verb == "destroy":
                stack.workspace.remove_stack(name)
                self._clear(name)
        return Outcome(name, listener.counts, tuple(listener.steps), outputs)

    def _clear(self, name: str) -> None:
        """End a world that no engine knows of: the one that made it was killed before it could note it."""
        folder = StateFolder(self._state / name)
        folder.reach.unlink(missing_ok=True)
        if not folder.is_held() and (world := World.find(folder.world)):
            world.kill()

    def _checked(self) -> str:
        """Give the profile's name, once it is known to be right. Raises Mistakes."""
        profile = profiles.validate(self._profile).profile
        if profile.driver == "processes":
            hint = f"`dynamos up {self._profile}` starts it"
            raise BadInput("the driver `processes` has nothing to provision", where=self._profile, hint=hint)
        return profile.name

    def _name(self) -> str:
        """Give the stack's name, also where the profile is not right or not there any more. Raises NotFound."""
        try:
            return profiles.load(self._profile).name
        except NotFound:
            found = self._profile
        except DynamosError:
            told = _NAME.search(places.profile_file(self._profile).read_text(encoding="utf-8", errors="replace"))
            found = told[1] if told else self._profile
        if not _STACK.fullmatch(found):
            hint = "give the stack's name in place of the profile"
            raise NotFound(f"it is not to be seen what stack {self._profile!r} is", hint=hint)
        return found

    def _open(self, name: str, *, new: bool) -> automation.Stack:
        """Give the stack, with its profile set; made where there is none, if it may be `new`."""
        options = automation.LocalWorkspaceOptions(env_vars=self._environment(), pulumi_command=_Command(self._engine))
        folder = str(checkout() / "infra")
        if not new:
            return automation.select_stack(name, work_dir=folder, opts=options)
        stack = automation.create_or_select_stack(name, work_dir=folder, opts=options)
        stack.set_config("profile", automation.ConfigValue(str(places.profile_file(self._profile).resolve())))
        return stack

    @property
    def folder(self) -> Path:
        """Where the state of stacks is, unless PULUMI_BACKEND_URL names another place."""
        return self._state / "stacks"

    def _environment(self) -> dict[str, str]:
        """Give the variables of the engine: whatever the user has set himself, and ours where he has not."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = {**self._engine.environment(self.folder), "DYNAMOS_STATE": str(self._state)}
        told["PULUMI_BACKEND_URL"] = os.environ.get("PULUMI_BACKEND_URL") or f"{self.folder.as_uri()}{_PLAIN_FILES}"
        if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & os.environ.keys():
            told["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(self._passphrase())
        return told

    def _passphrase(self) -> Path:
        """Give the file of the passphrase that the secrets in the state are kept by, which is made the first time."""
        path = self.folder / "passphrase"
        near = path.with_name(f".passphrase.{os.getpid()}")
        if not path.exists():
            with os.fdopen(os.open(near, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
            try:
                path.hardlink_to(near)  # whoever was first has made it
            except FileExistsError:
                pass
            finally:
                near.unlink()
        return path

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        """Be the only one of us who works on the stack."""
        try:
            with locked(self.folder / "locks" / name, within=_LOCK_SECONDS):
                yield
        except TimedOut as error:
            raise _busy(name) from error

    def _unlock(self, stack: automation.Stack) -> None:
        """Remove the locks that engines which were killed on this machine have left behind."""
        url = urlsplit(stack.workspace.env_vars["PULUMI_BACKEND_URL"])
        if url.scheme != "file":
            return
        locks = sorted(Path(url.path, ".pulumi", "locks").glob(f"organization/*/{stack.name}/*.json"))
        if any(_holds(lock) for lock in locks):
            raise _busy(stack.name)
        if locks:
            stack.cancel()


class _Command(automation.PulumiCommand):
    """The engine that was found, wherever it is."""

    def __init__(self, engine: Engine) -> None:
        self.command = str(engine.path)
        self.version = VersionInfo(*engine.version)


def _holds(lock: Path) -> bool:
    """Tell whether whoever has made the lock still runs, or may run elsewhere."""
    try:
        told = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if told.get("hostname") != socket.gethostname():
        return True
    try:
        return "pulumi" in Path(f"/proc/{told.get('pid')}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _plain(outputs: automation.OutputMap) -> dict[str, Any]:
    return {name: "[secret]" if told.secret else told.value for name, told in sorted(outputs.items())}


@contextmanager
def _explained(name: str, listener: Listener) -> Iterator[None]:
    """Turn what the engine complains of into one of our errors."""
    try:
        yield
    except StackNotFoundError:
        raise NotFound(f"there is no stack {name!r}", hint="dynamos stack up PROFILE makes it") from None
    except ConcurrentUpdateError:
        raise _busy(name) from None
    except CommandError as error:
        said = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()
        problems = listener.problems or [line.strip() for line in said]
        raise JobFailed(
            problems[0] if problems else "the engine failed and did not say why",
            where=f"stack {name}",
            hint="what was done stays; the same command goes on from there",
            log=problems[1:_SHOWN],
        ) from None


def _busy(name: str) -> Conflict:
    return Conflict(f"somebody works on the stack {name!r} now", hint="wait until that has ended, then try again")
