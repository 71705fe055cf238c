#!/usr/bin/python
"""Services that run, by systemd where it is the machine's first process, else by runit."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dynamos_services
short_description: Have services run as they are wanted, and be ready
description:
  - What a service is started with, the files that it depends on among that, makes its revision. A service that runs
    with another revision is restarted, whenever that came to be, an interrupted playbook included.
  - Waits until each has said in its log that it is ready.
  - C(left) ends, the last first, what runs with another revision, and all that comes after it in the list; each may
    finish before what it has begun. Nothing is started; what comes after them can then be told to.
options:
  services:
    description: "Services, each with C(name), C(user), C(command), C(ready) (a pattern of a line in its log),
    C(depends)
      (paths), C(environment), C(jobs) (whether it makes namespaces) and C(rights) (none; C(sys_admin), for one that
      enters the networks of containers; C(all), for one that makes them)."
    type: list
    elements: dict
    required: true
  state: {description: Whether they shall run., type: str, choices: [started, left, absent], default: started}
  folder: {description: Where their definitions are., type: path, default: /etc/dynamos}
  logs: {description: Where their logs are., type: path, default: /var/log/dynamos}
  within: {description: Seconds until they must be ready., type: int, default: 60}
author: DYNAMOS
"""
EXAMPLES = """
- name: Run the orchestrator
  dynamos_services:
    services: [{name: orchestrator, user: dynamos-orchestrator, command: [/bin/true], ready: "^ready"}]
"""
RETURN = """
services: {description: The services that were changed., type: list, returned: always}
manager: {description: What runs them., type: str, returned: always}
"""
_LEAVE = 45
"""Seconds that a service may take to finish what it has begun; longer than the `drain` of its configuration."""
_MARK = "dynamos.service revision="
_HEAD = """[Unit]
Description=DYNAMOS: {name}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={start}
"""
_RUN = """Restart=always
KillMode=mixed
TimeoutStopSec={leave}
RestartSec=1
StandardOutput=append:{log}
StandardError=append:{log}
UMask=0022
"""
_UNIT = f"""{_HEAD}User={{user}}
Group={{user}}
{_RUN}NoNewPrivileges={{no_new_privileges}}
CapabilityBoundingSet={{capabilities}}
AmbientCapabilities={{capabilities}}
ProtectSystem=strict
ReadWritePaths={{folder}}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices={{private_devices}}
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables={{protect_tunables}}
ProtectControlGroups={{protect_groups}}
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces={{restrict_namespaces}}
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""
_ROOT_UNIT = f"""{_HEAD}{_RUN}ProtectHome=yes
ProtectClock=yes
ProtectKernelLogs=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def main():
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "required": True},
            "state": {"type": "str", "choices": ["started", "left", "absent"], "default": "started"},
            "folder": {"type": "path", "default": "/etc/dynamos"},
            "logs": {"type": "path", "default": "/var/log/dynamos"},
            "within": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    manager = (Systemd if os.path.isdir("/run/systemd/system") else Runit)(module)
    changed = []
    wanted = module.params["services"]
    if module.params["state"] == "left":
        changed = _leave(manager, wanted, check=module.check_mode)
        module.exit_json(changed=bool(changed), services=changed, manager=manager.name)
    if module.params["state"] == "absent" and not module.check_mode:
        manager.stop([each["name"] for each in wanted if manager.pid(each["name"])])
    for each in wanted:
        act = manager.have if module.params["state"] == "started" else manager.remove
        if act(each):
            changed.append(each["name"])
    if module.params["state"] == "started" and not module.check_mode:
        _wait(module, manager, wanted)
    module.exit_json(changed=bool(changed), services=changed, manager=manager.name)


class Manager:
    """What both ways have in common: a script that starts the service, its revision, its log."""

    name = ""

    def __init__(self, module):
        self.module = module
        self.folder = module.params["folder"]
        self.check = module.check_mode

    def have(self, each):
        text = self.script(each)
        path = self.start(each["name"])
        defined = self.define(each)
        changed = _put(path, text, 0o755, check=self.check) or defined
        running = self.is_current(each)
        if (changed or not running) and not self.check:
            self.restart(each["name"])
        return changed or not running

    def is_current(self, each):
        return _environment(self.pid(each["name"])).get("DYNAMOS_REVISION") == self.revision(each)

    def start(self, name):
        return f"{self.folder}/services/{name}"

    def log(self, name):
        return f"{self.module.params['logs']}/{name}/current"

    def revision(self, each):
        total = hashlib.sha256(
            repr((each["command"], each["user"], sorted(each.get("environment", {}).items()))).encode()
        )
        if not each.get("pinned"):
            total.update(os.path.realpath(os.path.dirname(each["command"][0])).encode())
        for path in each.get("depends", []):
            try:
                with open(path, "rb") as file:
                    total.update(path.encode() + b"\0" + hashlib.sha256(file.read()).digest())
            except FileNotFoundError:
                if not self.check:
                    self.module.fail_json(msg=f"{each['name']}: {path} is missing: run the whole playbook")
        return total.hexdigest()[:16]

    def script(self, each):
        lines = ["#!/bin/sh", "# What a service is started with. Written by Ansible.", "exec 2>&1", "cd /"]
        lines += [f"export DYNAMOS_REVISION={self.revision(each)}", "export LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1"]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(each.get("environment", {}).items())]
        lines += [f"echo {_MARK}$DYNAMOS_REVISION", f"{self.become(each)}{shlex.join(each['command'])}", ""]
        return "\n".join(lines)

    def become(self, each):
        return "exec "

    def is_ready(self, each):
        """Tell whether the service said that it is ready since it started last, and what it said last."""
        text = ""
        for path in self._logs(each["name"]):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    text = file.read() + text
            except OSError:
                continue  # it has just been rotated away
            if _MARK in text:
                break
        _, mark, since = text.rpartition(_MARK)
        # What ran for so long that its first words are gone was ready then; one that ended has started anew since.
        ready = re.search(each["ready"], since, re.MULTILINE) is not None if mark else bool(text)
        return ready and bool(self.pid(each["name"])), since[-2000:] if mark else text[-2000:]

    def _logs(self, name):
        """Give the files of a service's log, the newest first."""
        current = self.log(name)
        rotated = glob.glob(f"{glob.escape(os.path.dirname(current))}/@*") + glob.glob(f"{glob.escape(current)}.*")
        return [current, *sorted(rotated, key=lambda path: -os.path.getmtime(path))]


class Runit(Manager):
    name = "runit"

    def define(self, each):
        name = each["name"]
        folder = f"{self.folder}/runit/{name}"
        log = os.path.dirname(self.log(name))
        if not self.check:
            os.makedirs(log, mode=0o755, exist_ok=True)
        changed = _put(f"{folder}/log/run", f"#!/bin/sh\nexec svlogd {shlex.quote(log)}\n", 0o755, check=self.check)
        return _put(f"{folder}/run", f"#!/bin/sh\nexec {self.start(name)}\n", 0o755, check=self.check) or changed

    def become(self, each):
        home = shlex.quote(os.path.dirname(each["command"][-1]))
        start, user = f"exec env HOME={home} chpst -o 65536 ", each["user"]
        if user == "root":
            return start
        if each.get("rights") == "sys_admin":
            only = "-all,+sys_admin"
            rights = f"--inh-caps={only} --ambient-caps={only}"
            return f"{start}setpriv --reuid={user} --regid={user} --init-groups {rights} "
        return f"{start}-u {user}:{user} "

    def pid(self, name):
        try:
            with open(f"{self.folder}/runit/{name}/supervise/pid", encoding="ascii") as file:
                return int(file.read().strip() or 0)
        except (OSError, ValueError):
            return 0

    def restart(self, name):
        """Have it started with what is written now; runsvdir itself starts what is new to it."""
        folder = f"{self.folder}/runit/{name}"
        end = time.monotonic() + 15
        while not os.path.exists(f"{folder}/supervise/ok"):
            if time.monotonic() > end:
                self.module.fail_json(msg=f"{name}: runsvdir did not take it up within 15 s: run the role node first")
            time.sleep(0.05)
        self._sv("-w", str(_LEAVE), "force-restart", folder)

    def stop(self, names):
        """Ask all of them to leave, and wait until they have."""
        if names:
            self._sv("-w", str(_LEAVE), "force-stop", *(f"{self.folder}/runit/{name}" for name in names))

    def remove(self, each):
        folder = f"{self.folder}/runit/{each['name']}"
        there = os.path.isdir(folder) or os.path.exists(self.start(each["name"]))
        if there and not self.check:
            if os.path.exists(f"{folder}/supervise/ok"):
                self._sv("-w", "20", "force-stop", folder)
                self._sv("-w", "20", "force-shutdown", folder)
            shutil.rmtree(folder, ignore_errors=True)
            _remove(self.start(each["name"]))
        return there

    def _sv(self, *words):
        subprocess.run(["sv", *words], capture_output=True, check=False)


class Systemd(Manager):
    name = "systemd"

    def define(self, each):
        jobs = each.get("jobs", False)
        log = self.log(each["name"])
        if not self.check:
            os.makedirs(os.path.dirname(log), mode=0o755, exist_ok=True)
        text = (_ROOT_UNIT if each.get("rights") == "all" else _UNIT).format(
            capabilities="CAP_SYS_ADMIN" if each.get("rights") == "sys_admin" else "",
            name=each["name"], start=self.start(each["name"]), user=each["user"], log=log, leave=_LEAVE,
            folder=os.path.dirname(each["command"][-1]),
            # Jobs of an agent live in namespaces of their own, with devices and settings as they make them.
            no_new_privileges="yes", restrict_namespaces="no" if jobs else "yes",
            private_devices="no" if jobs else "yes", protect_tunables="no" if jobs else "yes",
            protect_groups="no" if jobs else "yes",
        )  # fmt: skip
        changed = _put(self._unit(each["name"]), text, 0o644, check=self.check)
        if changed and not self.check:
            self._systemctl("daemon-reload")
            self._systemctl("enable", self._service(each["name"]))
        return changed

    def pid(self, name):
        told = self._systemctl("show", "--property", "MainPID", "--value", self._service(name)).stdout.strip()
        return int(told) if told.isdigit() else 0

    def restart(self, name):
        done = self._systemctl("restart", self._service(name))
        if done.returncode != 0:
            self.module.fail_json(msg=f"{name}: {done.stderr.strip()}")

    def stop(self, names):
        """Ask all of them to leave, and wait until they have."""
        if names:
            self._systemctl("stop", *map(self._service, names))

    def remove(self, each):
        unit = self._unit(each["name"])
        there = os.path.exists(unit)
        if there and not self.check:
            self._systemctl("disable", "--now", self._service(each["name"]))
            _remove(unit)
            _remove(self.start(each["name"]))
            self._systemctl("daemon-reload")
        return there

    def _unit(self, name):
        return f"/etc/systemd/system/{self._service(name)}"

    def _service(self, name):
        return f"dynamos-{name}.service"

    def _systemctl(self, *words):
        return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)


def _leave(manager, services, *, check):
    """End what is outdated with what depends on it; those that run jobs all at once, for each may take its time."""
    first = next((place for place, each in enumerate(services) if not manager.is_current(each)), len(services))
    there = [each for each in services[first:] if manager.pid(each["name"])]
    leaving = [each for each in there if not (each.get("pinned") and manager.is_current(each))]
    for _, together in itertools.groupby(reversed(leaving), key=lambda each: each.get("jobs") or each["name"]):
        if not check:
            manager.stop([each["name"] for each in together])
    return [each["name"] for each in leaving]


def _wait(module, manager, services):
    end = time.monotonic() + module.params["within"]
    waiting = list(services)
    while waiting:
        waiting = [each for each in waiting if not manager.is_ready(each)[0]]
        if waiting and time.monotonic() > end:
            each = waiting[0]
            said = "\n".join(manager.is_ready(each)[1].splitlines()[-5:])
            msg = f"{each['name']} was not ready within {module.params['within']} s. It said last:\n{said}"
            module.fail_json(msg=f"{msg}\nIts log is {manager.log(each['name'])}; run the playbook again")
        if waiting:
            time.sleep(0.1)


def _environment(pid):
    """Give the environment of a process; a shell that still starts the service has not got the revision."""
    if not pid:
        return {}
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = (pair.partition(b"=") for pair in file.read().split(b"\0"))
            return {name.decode(): value.decode(errors="replace") for name, _, value in pairs}
    except OSError:
        return {}


def _put(path, text, mode, *, check):
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text and os.stat(path).st_mode & 0o7777 == mode:
                return False
    except OSError:
        pass
    if not check:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        near = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
        with open(near, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(near, mode)
        os.replace(near, path)
    return True


def _remove(pattern):
    for path in glob.glob(glob.escape(pattern)):
        os.unlink(path)


if __name__ == "__main__":
    main()
