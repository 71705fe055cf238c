#!/usr/bin/python
"""Keys and certificates of the units on a node. The action plugin of this name runs it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dynamos_identities
short_description: Have a key and a certificate for every unit on a node
description:
  - Keys are made on the node and stay there. A signing request goes to the authority at the controller, and the
    certificate comes back.
options:
  identities:
    description: Names, each with its folder, owner and addresses.
    type: list
    elements: dict
    required: true
  marketplace: {description: The marketplace whose authority signs., type: str, required: true}
  control: {description: The controller's folder with the authority., type: path, required: true}
  renew: {description: Whether also those get new ones that have good ones., type: bool, default: false}
  python: {description: The interpreter of the release., type: path, default: /opt/dynamos/current/bin/python}
  phase: {description: What to do; set by the action plugin., type: str, choices: [needs, ask, place], default: needs}
  certificates: {description: What the authority signed; set by the action plugin., type: dict}
  authority: {description: The authority's certificate; set by the action plugin., type: str}
author: DYNAMOS
"""
EXAMPLES = """
- name: Have certificates
  dynamos_identities:
    identities: "{{ dynamos_identities }}"
    marketplace: aviation
    control: /srv/testbed
"""
RETURN = """
told: {description: What each identity needs or asks for., type: dict, returned: always}
"""


def main():
    module = AnsibleModule(
        argument_spec={
            "identities": {"type": "list", "elements": "dict", "required": True},
            "marketplace": {"type": "str", "required": True},
            "control": {"type": "path", "required": True},
            "renew": {"type": "bool", "default": False},
            "python": {"type": "path", "default": "/opt/dynamos/current/bin/python"},
            "phase": {"type": "str", "choices": ["needs", "ask", "place"], "default": "needs"},
            "certificates": {"type": "dict"},
            "authority": {"type": "str"},
        },
        supports_check_mode=True,
    )
    wanted = module.params["identities"]
    if module.params["phase"] == "needs" and not os.path.exists(module.params["python"]):
        module.exit_json(changed=True, told={each["name"]: True for each in wanted})
    if module.params["phase"] == "ask":
        for each in wanted:
            _folder(each)
    known = [each for each in wanted if os.path.isdir(each["folder"])]
    told = {each["name"]: True for each in wanted if each not in known}
    told |= _work(module, known)
    module.exit_json(changed=bool(told), told=told)


def _folder(each):
    """Make a folder that is its unit's only."""
    owner = pwd.getpwnam(each["user"])
    parent = os.path.dirname(each["folder"])
    os.makedirs(parent, mode=0o755, exist_ok=True)
    if not os.path.isdir(each["folder"]):
        os.mkdir(each["folder"], 0o700)
        os.chown(each["folder"], owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _work(module, identities):
    asked = {name: module.params[name] for name in ("marketplace", "renew", "certificates", "authority")}
    done = subprocess.run(
        [module.params["python"], "-m", "dynamos.deploy.enrolments", module.params["phase"]],
        input=json.dumps({**asked, "identities": identities}), capture_output=True, text=True, cwd="/", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        module.fail_json(msg=f"no certificates: {done.stderr.strip()}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
