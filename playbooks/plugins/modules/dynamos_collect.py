#!/usr/bin/python
"""Pack folders of text files, without what must not leave the node. The action plugin of this name runs it."""

from __future__ import annotations

import io
import os
import re
import tarfile
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dynamos_collect
short_description: Bring folders of logs to the controller
description:
  - Private keys, and tokens, grants and vouchers (compact JWS) in a file are replaced before it leaves the node.
  - Files that are no logs (by their names) are left out.
options:
  folders: {description: "Folders on the node, by the names that they get.", type: dict, required: true}
  dest: {description: The folder at the controller; used by the action plugin., type: path, required: true}
author: DYNAMOS
"""
EXAMPLES = """
- name: Bring the logs
  dynamos_collect:
    folders: {logs: /var/log/dynamos}
    dest: /srv/collected/tokyo-1
"""
RETURN = """
archive: {description: Where the pack is on the node; the action plugin removes it., type: str, returned: always}
files: {description: How many files there are., type: int, returned: always}
hidden: {description: How many secrets were replaced., type: int, returned: always}
"""
_LOGS = re.compile(r"^(current|previous|@[0-9a-f]+\.[su]|current\.\d+|[\w.=-]+\.jsonl)$")
_SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    rb"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}",
    re.DOTALL,
)
_HIDDEN = b"[secret]"


def main():
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "dict", "required": True},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True, archive="", files=0, hidden=0)
    handle, archive = tempfile.mkstemp(prefix="dynamos-collect-", suffix=".tar.gz")
    files = hidden = 0
    try:
        with os.fdopen(handle, "wb") as target, tarfile.open(fileobj=target, mode="w:gz") as tar:
            for name, folder in module.params["folders"].items():
                for path in _logs(folder):
                    count = _add(tar, path, f"{name}/{os.path.relpath(path, folder)}")
                    files, hidden = files + 1, hidden + count
    except OSError as error:
        os.unlink(archive)
        module.fail_json(msg=f"the logs cannot be packed: {error}; see to it that there is room in {archive}")
    module.exit_json(changed=True, archive=archive, files=files, hidden=hidden)


def _logs(folder):
    for place, _, names in os.walk(folder) if not os.path.islink(folder) else ():
        for name in sorted(names):
            path = os.path.join(place, name)
            if _LOGS.match(name) and os.path.isfile(path) and not os.path.islink(path):
                yield path


def _add(tar, path, name):
    with open(path, "rb") as file:
        content, hidden = _SECRETS.subn(_HIDDEN, file.read())
    facts = tarfile.TarInfo(name)
    facts.size, facts.mode, facts.mtime = len(content), 0o600, int(os.path.getmtime(path))
    tar.addfile(facts, io.BytesIO(content))
    return hidden


if __name__ == "__main__":
    main()
