"""Check an RO-Crate with the validator of its community, without a network.

The validator asks the web for the context of RO-Crate 1.1, which neither it nor `rocrate` brings. `rocrate` brings a
later one, in which every term that 1.1 has of schema.org means the same; it is put into the validator's cache under
the address of 1.1, without the terms that came later and that we use (sha256). What the cache has not, is an error.
"""

import io
import json
import warnings
from pathlib import Path

import requests_cache
import rocrate
import urllib3
from requests.adapters import HTTPAdapter
from rocrate_validator import services
from rocrate_validator.utils.document_loader import uninstall_document_loader
from rocrate_validator.utils.http import HttpRequester

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
LATER = ("sha256",)


def context():
    """Give the terms that stand for the context of RO-Crate 1.1."""
    told = json.loads((Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text())
    return {name: meaning for name, meaning in told["@context"].items() if name not in LATER}


def issues(crate, scratch, *, profile="ro-crate-1.1"):
    """Give what the validator says against a crate's folder of what is required; empty where it is valid."""
    cache = scratch / "validator-cache"
    with requests_cache.CachedSession(str(cache), backend="sqlite", expire_after=-1) as session:
        session.mount(CONTEXT, _Shelf())
        session.get(CONTEXT)
    settings = services.ValidationSettings(
        rocrate_uri=str(crate), profile_identifier=profile, requirement_severity="REQUIRED", cache_path=cache,
        offline=True, disable_remote_crate_download=False,
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the validator's own libraries
            result = services.validate(settings)
        return [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()]
    finally:
        uninstall_document_loader()
        HttpRequester()._close_session()


class _Shelf(HTTPAdapter):
    """Answers for the web, with the context."""

    def send(self, request, **_):
        raw = urllib3.HTTPResponse(
            io.BytesIO(json.dumps({"@context": context()}).encode()), {"content-type": "application/ld+json"},
            status=200, preload_content=False,
        )  # fmt: skip
        return self.build_response(request, raw)
