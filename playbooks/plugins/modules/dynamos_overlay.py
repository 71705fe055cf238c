#!/usr/bin/python
"""A node's seats in overlays. Keys are made on the node; only what is public leaves it."""

from __future__ import annotations

import json
import os
import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dynamos_overlay
short_description: Have the seats of a node in overlays
description:
  - First all nodes C(prepare), and what is public of their members goes by the controller; then all C(join), and wait
    until every member reaches every other one.
  - A seat that the testbed has made itself is looked at, and nothing of it is changed.
options:
  phase: {description: What to do., type: str, choices: [look, prepare, join, leave], required: true}
  overlays: {description: "The overlays, as the inventory says them.", type: list, elements: dict, required: true}
  control: {description: The controller's folder; what is public is kept in it., type: path}
  node: {description: The name of the node., type: str, required: true}
  folder: {description: Where the machine is served., type: path, required: true}
  within: {description: Seconds until all members must be reached., type: int, default: 60}
  closed:
    description: Ports that no container may reach, at its node or a peer; C(look) tells which are open.
    type: list
    elements: int
    default: []
  python: {description: The interpreter of the release., type: path, default: /opt/dynamos/current/bin/python}
  material: {description: What is public of all members; set by the action plugin., type: dict, default: {}}
author: DYNAMOS
"""
EXAMPLES = """
- name: Make keys and containers
  dynamos_overlay:
    phase: prepare
    overlays: "{{ dynamos_overlays }}"
    control: "{{ dynamos_control }}"
    node: "{{ inventory_hostname }}"
    folder: "{{ dynamos_overlay.world }}/{{ inventory_hostname }}"
"""
RETURN = """
told: {description: What came of it., type: dict, returned: always}
"""
_SLACK = 60


def main():
    module = AnsibleModule(
        argument_spec={
            "phase": {"type": "str", "choices": ["look", "prepare", "join", "leave"], "required": True},
            "overlays": {"type": "list", "elements": "dict", "required": True},
            "control": {"type": "path"},
            "node": {"type": "str", "required": True},
            "folder": {"type": "path", "required": True},
            "within": {"type": "int", "default": 60},
            "closed": {"type": "list", "elements": "int", "default": []},
            "python": {"type": "path", "default": "/opt/dynamos/current/bin/python"},
            "material": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    phase = module.params["phase"]
    if not os.path.exists(module.params["python"]):
        module.exit_json(changed=phase != "leave", told={})
    if module.check_mode and phase == "prepare":
        module.exit_json(changed=False, told={"material": {}, "given": []})
    told = _work(module, "look" if module.check_mode else phase)
    changed = any(told.get(name) for name in ("wrong", "joined", "left"))
    module.exit_json(changed=changed, told=told)


def _work(module, phase):
    asked = {name: module.params[name] for name in ("overlays", "node", "folder", "within", "material", "closed")}
    try:
        done = subprocess.run(
            [module.params["python"], "-m", "dynamos.deploy.seating", phase], input=json.dumps(asked),
            capture_output=True, text=True, cwd="/", check=False, timeout=module.params["within"] + _SLACK,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        module.fail_json(msg=f"the overlays of {asked['node']} were not done in time: run the playbook again")
    if done.returncode != 0:
        module.fail_json(msg=f"overlays: {done.stderr.strip()}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
