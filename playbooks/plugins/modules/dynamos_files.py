#!/usr/bin/python
"""Several small files at once, each in one step."""

from __future__ import annotations

import base64
import difflib
import os
import pwd
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dynamos_files
short_description: Put several small files in place
description:
  - One task for all files of a unit, since each task costs a round trip. Each file is replaced in one step.
options:
  files:
    description: "Files, each with C(path), C(content) and, where they are not root's, C(owner) and C(mode)."
    type: list
    elements: dict
    required: true
author: DYNAMOS
"""
EXAMPLES = """
- name: Put the configuration in place
  dynamos_files:
    files: [{path: /etc/dynamos/a.json, content: "{}", mode: "0644"}]
"""
RETURN = """
paths: {description: The files that changed., type: list, returned: always}
"""


def main():
    spec = {"files": {"type": "list", "elements": "dict", "required": True}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    changed, diffs = [], []
    for each in module.params["files"]:
        unknown = set(each) - {"path", "content", "owner", "mode", "secret", "encoding"}
        if unknown or not {"path", "content"} <= set(each):
            module.fail_json(msg=f"a file has path, content, owner, mode, secret and encoding, not {sorted(each)}")
        try:
            if difference := _put(each, check=module.check_mode):
                changed.append(each["path"])
                diffs.append(difference)
        except KeyError:
            module.fail_json(msg=f"{each['path']}: there is no user {each.get('owner')!r}: run the role node first")
        except OSError as error:
            module.fail_json(msg=f"{each['path']}: {error.strerror}; nothing of this file was changed")
    module.exit_json(changed=bool(changed), paths=changed, diff=diffs)


def _put(each, *, check):
    path, mode = each["path"], int(str(each.get("mode", "0644")), 8)
    content = each["content"]
    wanted = base64.b64decode(content) if each.get("encoding") == "base64" else content.encode()
    there = None
    if os.path.isfile(path) and not os.path.islink(path):
        with open(path, "rb") as file:
            there = file.read()
    owner = None if check and not _known(each.get("owner", "root")) else pwd.getpwnam(each.get("owner", "root"))
    facts = os.stat(path, follow_symlinks=False) if there is not None else None
    right = facts is not None and (facts.st_mode & 0o7777, facts.st_uid) == (mode, owner.pw_uid if owner else -1)
    if there == wanted and right:
        return None
    if not check:
        _write(path, wanted, mode, owner)
    return _difference(path, there, wanted, secret=each.get("secret", False))


def _known(name):
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _write(path, content, mode, owner):
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, near = tempfile.mkstemp(dir=folder, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            os.fchown(handle, owner.pw_uid, owner.pw_gid)
            file.write(content)
        os.replace(near, path)
    except OSError:
        os.unlink(near)
        raise


def _difference(path, there, wanted, *, secret):
    if secret:
        return {"before_header": path, "after_header": path, "before": "secret\n", "after": "another secret\n"}
    before, after = ((text or b"").decode(errors="replace") for text in (there, wanted))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, lineterm="", n=1)
    return {"prepared": "\n".join(list(lines)[:200]) + "\n"}


if __name__ == "__main__":
    main()
