#!/usr/bin/python
"""Install a bundle of wheels that the controller brought. The action plugin of this name runs it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dynamos_release
short_description: Have a release of DYNAMOS on a node
description:
  - Every wheel is checked against the hash in the manifest before anything is installed.
  - A release has a virtual environment of its own; C(current) leads to the one in use, and is moved in one step.
  - An installation that was interrupted is made anew.
options:
  root: {description: The folder of releases., type: path, default: /opt/dynamos}
  bundle: {description: The manifest of the bundle, type: dict, required: true}
  python: {description: The interpreter that the environment is made with., type: path, default: /usr/bin/python3}
  keep: {description: How many earlier releases stay., type: int, default: 1}
  use: {description: Whether it shall be the one in use., type: bool, default: true}
  archive: {description: Where the bundle is on the node; set by the action plugin., type: path}
author: DYNAMOS
"""
EXAMPLES = """
- name: Have this release
  dynamos_release:
    bundle: "{{ dynamos_bundle }}"
"""
RETURN = """
release: {description: The folder of the release., type: str, returned: always}
incoming: {description: Where the bundle is to be put., type: str, returned: when it is missing}
"""
_DONE = "release.json"
# Units cannot write their bytecode. What they load is a third of what is there: loading it once takes a third as long.
_COMPILE = """
from importlib import import_module
from dynamos.deploy import buckets, enrolments, supervisor, unit
for name in supervisor.LIBRARIES:
    import_module(name)
"""


def main():
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/dynamos"},
            "bundle": {"type": "dict", "required": True},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "keep": {"type": "int", "default": 1},
            "use": {"type": "bool", "default": True},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    root, bundle = Path(module.params["root"]), module.params["bundle"]
    release = root / "releases" / bundle["digest"][:16]
    installed = (release / _DONE).is_file()
    in_use = installed and (root / "current").is_symlink() and (root / "current").resolve() == release.resolve()
    use = module.params["use"]
    told = {"changed": not (in_use if use else installed), "release": str(release), "installed": installed}
    if not told["changed"] or module.check_mode:
        module.exit_json(**told)
    if not installed and not module.params["archive"]:
        # The folder of releases has room for one: the home folder of whom we are here may have none.
        incoming = root / "incoming"
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        module.exit_json(**told, incoming=str(incoming))
    if not installed:
        _install(module, release)
    if not use:
        module.exit_json(**told)
    _use(root, release)
    _forget(root, release, module.params["keep"])
    module.exit_json(**told)


def _install(module, release):
    bundle = module.params["bundle"]
    shutil.rmtree(release, ignore_errors=True)
    release.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=release.parent, prefix=".new-") as room:
        try:
            wheels = _unpacked(module, Path(room), bundle["wheels"])
            uv = _uv(wheels, Path(room))
            environment = {"PATH": "/usr/bin:/bin", "HOME": room, "UV_NO_CONFIG": "1", "UV_CACHE_DIR": f"{room}/cache"}
            quiet = [str(uv), "--quiet", "--offline"]
            _run(module, [*quiet, "venv", "--python", module.params["python"], str(release)], environment)
            names = [f"{path.name.split('-')[0]} @ file://{path} --hash=sha256:{bundle['wheels'][path.name]}"
                     for path in wheels if not path.name.startswith("uv-")]  # fmt: skip
            locked = Path(room) / "requirements.txt"
            locked.write_text("\n".join(names) + "\n")
            install = [*quiet, "pip", "install", "--python", str(release / "bin" / "python"), "--no-index", "--no-deps"]
            _run(module, [*install, "--require-hashes", "-r", str(locked)], environment)
            _run(module, [str(release / "bin" / "python"), "-c", _COMPILE], {**environment, "OMP_NUM_THREADS": "1"})
        except OSError as error:
            hint = "free some space there" if error.errno == 28 else "look at the folder of releases"
            module.fail_json(msg=f"the release cannot be installed: {error}; {hint}, then run the playbook again")
    (release / _DONE).write_text(json.dumps({"digest": bundle["digest"], "version": bundle["version"]}))


def _unpacked(module, room, hashes):
    """Unpack the wheels, none but those of the manifest, each with its hash."""
    with tarfile.open(module.params["archive"]) as tar:
        found = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
        if set(found) != set(hashes):
            module.fail_json(msg=f"the bundle holds other wheels than its manifest: {sorted(set(found) ^ set(hashes))}")
        for name, member in found.items():
            with tar.extractfile(member) as source, open(room / name, "wb") as target:
                shutil.copyfileobj(source, target)
    for name, wanted in hashes.items():
        with open(room / name, "rb") as file:
            total = hashlib.sha256()
            while block := file.read(1 << 20):
                total.update(block)
        if total.hexdigest() != wanted:
            msg = f"the wheel {name} has another hash than its manifest says; nothing was installed. "
            module.fail_json(msg=msg + "Remove the bundle at the controller, then run the playbook again")
    return [room / name for name in sorted(hashes)]


def _uv(wheels, room):
    wheel = next(path for path in wheels if path.name.startswith("uv-"))
    with zipfile.ZipFile(wheel) as packed:
        inside = next(name for name in packed.namelist() if name.endswith("/scripts/uv"))
        (room / "uv").write_bytes(packed.read(inside))
    (room / "uv").chmod(0o700)
    return room / "uv"


def _run(module, argv, environment):
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        module.fail_json(msg=f"{' '.join(argv[:5])} failed: {done.stderr.strip()}")


def _use(root, release):
    near = root / ".current"
    near.unlink(missing_ok=True)
    near.symlink_to(release)
    os.replace(near, root / "current")


def _forget(root, release, keep):
    """Remove what is older than the releases to keep, and what interrupted installations left."""
    for left in [root / "incoming", *(root / "releases").glob(".new-*")]:
        shutil.rmtree(left, ignore_errors=True)
    others = [path for path in (root / "releases").iterdir() if path != release]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[keep:]:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
