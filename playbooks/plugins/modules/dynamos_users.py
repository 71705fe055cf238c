#!/usr/bin/python
"""System users without a home and without a way to log in, one for each unit."""

from __future__ import annotations

import pwd
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dynamos_users
short_description: Have system users for units
description:
  - One task for all users of a node, since each task costs a round trip. Each has a group of its own of the same name.
options:
  names: {description: The names of the users., type: list, elements: str, required: true}
  state: {description: Whether they shall be there., type: str, choices: [present, absent], default: present}
author: DYNAMOS
"""
EXAMPLES = """
- name: Have the users
  dynamos_users:
    names: [dynamos-api]
"""
RETURN = """
names: {description: The users that were made or removed., type: list, returned: always}
"""
_PATIENCE = 5.0
_MAKE = ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")


def main():
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    wanted = module.params["state"] == "present"
    changed = [name for name in module.params["names"] if _known(name) != wanted]
    for name in changed if not module.check_mode else ():
        if not wanted:
            _end(module, name)
        argv = [*_MAKE, "--shell", "/usr/sbin/nologin", name] if wanted else ["userdel", name]
        code, _, told = module.run_command(argv)
        if code != 0:
            module.fail_json(msg=f"{argv[0]} {name}: {told.strip()}")
    module.exit_json(changed=bool(changed), names=changed)


def _end(module, name):
    """Wait for the last processes of a user whose unit has ended, and end those that take too long."""
    end = time.monotonic() + _PATIENCE
    while module.run_command(["pgrep", "-u", name])[0] == 0:
        if time.monotonic() > end:
            module.run_command(["pkill", "-KILL", "-u", name])
        time.sleep(0.1)
        if time.monotonic() > end + _PATIENCE:
            module.fail_json(msg=f"processes of {name} do not end: run the playbook again")


def _known(name):
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


if __name__ == "__main__":
    main()
