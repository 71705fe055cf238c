"""Say what to do about what Ansible itself cannot: nodes that do not answer, keys of hosts, disks that are full.

What DYNAMOS's own modules find says its remedy itself.
"""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: dynamos_remedies
type: notification
short_description: Remedies for nodes that cannot be set up
description:
  - After a task that could not be done on a node, names node and task once more, and what to do about it.
"""
KEY = (
    "its key is another than the one that is known, and is not accepted. If the node was made anew, bring the testbed "
    "or the stack up again, which writes the keys that are known; of a machine of your own, compare the key with that "
    "on its console, then put it into known_hosts"
)
SILENT = "it does not answer ssh: see whether it runs (dynamos testbed show, or its console), bring it up"
FULL = "a disk of it is full: look at df -h there, and free some space"
AGAIN = "; then run the same command again: what is done stays done"
KEY_WORDS = ("host key verification failed", "host identification has changed")
FULL_WORDS = ("no space left on device", "errno 28", "disk quota exceeded")


def remedy(said: str, *, reached: bool) -> str:
    """Give what to do, empty where the message says it or nothing is known."""
    said = said.lower()
    if not reached:
        known = KEY if any(words in said for words in KEY_WORDS) else SILENT
        # A shell on a full disk cannot even make the folder that a task begins with.
        return (FULL if any(words in said for words in FULL_WORDS) else known) + AGAIN
    return FULL + AGAIN if any(words in said for words in FULL_WORDS) and "run the playbook again" not in said else ""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "dynamos_remedies"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_unreachable(self, result):
        self._tell(result, reached=False)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if not ignore_errors:
            self._tell(result, reached=True)

    def _tell(self, result, *, reached):
        told = result.result if hasattr(result, "result") else result._result
        said = " ".join(str(told.get(name, "")) for name in ("msg", "stderr", "module_stderr", "exception"))
        if text := remedy(said, reached=reached):
            host, task = (getattr(result, name, None) or getattr(result, f"_{name}") for name in ("host", "task"))
            self._display.display(f"{host.get_name()}, in '{task.get_name()}': {text}", color="yellow")
