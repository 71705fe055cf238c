#!/usr/bin/python
"""A folder of files as the controller has it. The action plugin of this name runs it."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import tarfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dynamos_tree
short_description: Have a folder of files as the controller has it
description:
  - Only files that differ travel. Files that the controller does not have are removed.
options:
  source: {description: The folder at the controller., type: path, required: true}
  path: {description: The folder on the node., type: path, required: true}
  group: {description: "The group that may read it; nobody else may, but root.", type: str, required: true}
  manifest: {description: Hashes by name; set by the action plugin., type: dict}
  archive: {description: What differs; set by the action plugin., type: path}
author: DYNAMOS
"""
EXAMPLES = """
- name: Bring a party's data
  dynamos_tree: {source: data/united, path: /var/lib/dynamos/data/united, group: dynamos-united}
"""
RETURN = """
differ: {description: Names of files that are missing or differ., type: list, returned: always}
incoming: {description: Where the archive is to be put., type: str, returned: when files are missing}
"""
_FOLDER, _FILE = 0o750, 0o640


def main():
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "path": {"type": "path", "required": True},
            "group": {"type": "str", "required": True},
            "manifest": {"type": "dict"},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    path, wanted = module.params["path"], module.params["manifest"]
    there = {name: _hash(os.path.join(path, name)) for name in _files(path)}
    differ = sorted(name for name in wanted if there.get(name) != wanted[name])
    extra = sorted(there.keys() - wanted.keys())
    try:
        group = pwd.getpwnam(module.params["group"]).pw_gid
    except KeyError:
        if module.check_mode:
            module.exit_json(changed=True, differ=differ)
        module.fail_json(msg=f"there is no user {module.params['group']!r}: run the role node first")
    changed = bool(differ or extra) or not os.path.isdir(path)
    incoming = f"{path}.incoming"
    if differ and not module.check_mode and not module.params["archive"]:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.close(os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
        module.exit_json(changed=True, differ=differ, incoming=incoming)
    if not module.check_mode:
        _place(module, path, differ, extra)
        changed = _own(path, group) or changed
        if os.path.exists(incoming):
            os.unlink(incoming)
    module.exit_json(changed=changed, differ=differ)


def _place(module, path, differ, extra):
    os.makedirs(path, mode=_FOLDER, exist_ok=True)
    for name in extra:
        os.unlink(os.path.join(path, name))
    if not differ:
        return
    with tarfile.open(module.params["archive"]) as tar:
        for name in differ:
            target = os.path.join(path, name)
            os.makedirs(os.path.dirname(target), mode=_FOLDER, exist_ok=True)
            near = f"{target}.new"
            try:
                with tar.extractfile(tar.getmember(name)) as source, open(near, "wb") as file:
                    shutil.copyfileobj(source, file)
            except OSError as error:
                module.fail_json(msg=f"{target}: {error.strerror}; run the playbook again when that is mended")
            os.replace(near, target)


def _own(path, group):
    """Let the party's own unit read it, and nobody write it."""
    changed = False
    for folder, _, names in os.walk(path):
        for each, mode in [(folder, _FOLDER), *((os.path.join(folder, name), _FILE) for name in names)]:
            facts = os.stat(each, follow_symlinks=False)
            if (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) != (0, group, mode):
                os.chown(each, 0, group, follow_symlinks=False)
                os.chmod(each, mode)
                changed = True
    return changed


def _files(path):
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), path)


def _hash(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


if __name__ == "__main__":
    main()
