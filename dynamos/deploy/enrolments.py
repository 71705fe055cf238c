"""Enrolments: how a unit on a node comes to its certificate, without its key ever leaving the node.

On the node, `python -m dynamos.deploy.enrolments ask|place` makes keys and signing requests, and takes what the
authority gave for them; JSON comes in and goes out. At the controller, `sign` has the authority answer.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dynamos.deploy.states import StateFolder, private_folder, write_private
from dynamos.deploy.units import AUTHORITY, CERTIFICATE, KEY
from dynamos.kit.credentials import dns_name
from dynamos.kit.errors import BadInput, Conflict, DynamosError, NotFound
from dynamos.middleware.identity.authority import LOCAL_HOSTS, Authority, renewal_due, serves_at, signing_request
from dynamos.middleware.identity.tokens import DevelopmentIssuer

NEXT_KEY = "key.next.pem"
"""A key that has been asked for with; it takes the place of the old one together with its certificate."""


def ask(folder: Path, unit: str, marketplace: str, hosts: Sequence[str], *, renew: bool = False) -> str:
    """Give the signing request (PEM) of a unit that needs a certificate, empty where it has a good one for its key,
    for these addresses, and for long enough."""
    if not renew and _is_good(folder, hosts):
        return ""
    private_folder(folder)
    key, request = signing_request(unit, marketplace)
    write_private(folder / NEXT_KEY, key.decode())
    return request.decode()


def needs(folder: Path, hosts: Sequence[str]) -> bool:
    """Tell whether a unit needs a certificate."""
    return not _is_good(folder, hosts)


def place(folder: Path, certificate: str, authority: str) -> None:
    """Put a certificate in place, with the key that it is for. Raises BadInput where it is for another key."""
    if not _fit(certificate.encode(), (folder / NEXT_KEY).read_bytes()):
        raise BadInput("the certificate is for another key", where=str(folder), hint="run the playbook again")
    write_private(folder / AUTHORITY, authority)
    write_private(folder / CERTIFICATE, certificate)
    (folder / NEXT_KEY).replace(folder / KEY)


def sign(
    control: Path, marketplace: str, requests: Mapping[str, Mapping[str, Any]], *, overlap: bool = False
) -> dict[str, str]:
    """Give the certificates (PEM) for signing requests: by name, each `{"request": PEM, "hosts": [...]}`. With
    `overlap`, what they signed with their former keys counts too, until the rotation is settled.

    The authority's folder is in `control`. Raises NotFound where there is none yet, BadInput, Conflict.
    """
    authority = authority_of(control, marketplace)
    return {
        name: authority.sign(each["request"].encode(), hosts=(*LOCAL_HOSTS, *each["hosts"]), overlap=overlap).decode()
        for name, each in requests.items()
    }


def signed(control: Path, names: Sequence[str]) -> dict[str, str]:
    """Give the certificates (PEM) that the authority issued last for these names; those that it knows."""
    issued = {name: StateFolder(control).authority / "issued" / f"{dns_name(name)}.pem" for name in names}
    return {name: path.read_text(encoding="ascii") for name, path in issued.items() if path.exists()}


def found(control: Path, marketplace: str) -> bool:
    """Make the authority and the issuer of tokens of a marketplace, and tell whether one of them was missing."""
    state, made = StateFolder(control), False
    state.make()
    try:
        authority_of(control, marketplace)
    except NotFound:
        Authority.create(state.authority, marketplace)
        made = True
    try:
        DevelopmentIssuer.load(state.issuer)
    except NotFound:
        DevelopmentIssuer.create(state.issuer)
        made = True
    return made


def authority_of(control: Path, marketplace: str) -> Authority:
    """Give the authority of the marketplace. Raises NotFound where there is none yet, Conflict for another one's."""
    authority = Authority.load(StateFolder(control).authority)
    if authority.marketplace != marketplace:
        hint = "take another folder for the controller's state"
        raise Conflict(f"the authority is that of {authority.marketplace!r}", where=str(control), hint=hint)
    return authority


def _is_good(folder: Path, hosts: Sequence[str]) -> bool:
    held = [folder / name for name in (CERTIFICATE, KEY, AUTHORITY)]
    if not all(path.exists() for path in held):
        return False
    certificate, key = (path.read_bytes() for path in held[:2])
    return _fit(certificate, key) and serves_at(held[0], hosts) and not renewal_due(held[0])


def _fit(certificate: bytes, key: bytes) -> bool:
    public = load_pem_private_key(key, password=None).public_key()
    return x509.load_pem_x509_certificate(certificate).public_key() == public


def main() -> None:
    """Do what a playbook asks for, for every identity in the JSON at standard input; tell in JSON what came of it."""
    asked = json.load(sys.stdin)
    told = {each["name"]: _as_owner(each, partial(_one, sys.argv[1], asked, each)) for each in asked["identities"]}
    sys.stdout.write(json.dumps({name: each for name, each in told.items() if each}))


def _one(what: str, asked: Mapping[str, Any], each: Mapping[str, Any]) -> Any:
    folder = Path(each["folder"])
    if what == "needs":
        return needs(folder, each["hosts"])
    if what == "ask":
        return ask(folder, each["name"], asked["marketplace"], each["hosts"], renew=asked.get("renew", False))
    certificate = asked["certificates"].get(each["name"])
    if certificate and (folder / NEXT_KEY).exists():
        place(folder, certificate, asked["authority"])
        return True
    return False


def _as_owner(each: Mapping[str, Any], work: Callable[[], Any]) -> Any:
    """Work in a unit's folder as the unit's own user: what its user puts there cannot mislead root."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        answer: dict[str, Any]
        try:
            if os.geteuid() == 0:
                entry = pwd.getpwnam(each["user"])
                os.setgroups([])
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
            answer = {"told": work()}
        except DynamosError as error:
            answer = {"error": str(error)}
        except (OSError, KeyError) as error:
            answer = {"error": f"{each['name']}: {error}"}
        os.write(tell, json.dumps(answer).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as answers:
        answer = json.loads(answers.read() or b'{"error": "it ended without a word"}')
    os.waitpid(pid, 0)
    if "error" in answer:
        sys.stderr.write(answer["error"] + "\n")
        raise SystemExit(1)
    return answer["told"]


if __name__ == "__main__":
    main()
