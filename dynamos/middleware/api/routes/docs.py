"""What OpenAPI says of bodies and answers. The bodies are read by hand, strictly; this tells people how they look."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from starlette.responses import Response

from dynamos.middleware.api import problems
from dynamos.middleware.api.media import FORMS, SVG
from dynamos.middleware.messages import Rehearsed
from dynamos.middleware.steering import Monitored, Options, Steering
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request
from dynamos.model.services import Service
from dynamos.model.values import Name, Value

Schema = dict[str, Any]
_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
_CHECK_NAME = get_args(Name)[1].func
_REFERENCE = "#/components/schemas/{model}"
TEXT_TYPE = {"type": "string"}
_ANY = {"type": "object", "additionalProperties": True}


def ref(name: str) -> Schema:
    """Give a reference to a schema by its name."""
    return {"$ref": _REFERENCE.format(model=name)}


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


ASK: Schema = {"anyOf": [ref("UpstreamRequest"), ref("PlainRequest")]}
APPROVAL = _json("The results as texts, and what came of each provider", ref("Approval"))
JOB = _json("The job as it is now", ref("Job"))
JOBS = _json("Jobs, newest first", {"type": "object", "properties": {"jobs": {"type": "array", "items": _ANY}}})
CHECKED = _json("Whether it would run, and how", ref("Checked"))
REHEARSED = _json("What would become of jobs that run and of requests that came", ref("Rehearsed"))
SPANS = _json("The spans of the trace", ref("Trace"))
MONITORED = _json("What is monitored", ref("Monitored"))
OPTIONS = _json("What can be set", ref("Options"))
STEERING = _json("What is set now", ref("Steering"))
OBJECT = _json("An object", _ANY)
LIST = _json("A list", {"type": "array", "items": _ANY})
ONE = {**OBJECT, "headers": {"ETag": {"description": "The revision, for If-Match", "schema": TEXT_TYPE}}}
TEXT: Schema = {"description": "A text", "content": {"text/plain": {"schema": TEXT_TYPE}}}
OK: Schema = {**TEXT, "description": "OK", "headers": ONE["headers"]}
GONE: Schema = {"description": "It is gone"}
EVENTS: Schema = {"description": "Server-sent events", "content": {"text/event-stream": {"schema": TEXT_TYPE}}}
RESULT: Schema = {
    "description": "The result, in the form that was asked for",
    "content": {
        form.media_type: {"schema": {} if "json" in form.media_type else {"type": "string", "format": "binary"}}
        for form in (*FORMS, SVG)
    },
}


def of(body: Schema | None, answers: dict[int, Schema]) -> dict[str, Any]:
    """Give what a route's decorator wants to know for OpenAPI."""
    told: dict[int | str, Schema] = {"default": {"$ref": "#/components/responses/Problem"}}
    told |= dict(answers.items())
    status = min(answers)
    extra: Schema = {}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return {"responses": told, "status_code": status, "response_class": Response, "openapi_extra": extra}


class Generator(GenerateJsonSchema):
    """Says how names look, which the models check by a function."""

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        made = super().function_after_schema(schema)
        if schema["function"]["function"] is _CHECK_NAME:
            made["pattern"] = _NAME_PATTERN
        return made


def schemas() -> dict[str, Schema]:
    """Give every schema that routes refer to."""
    found: dict[str, Schema] = {}
    model: type[Value]
    for model in (Request, Agreement, Archetype, RequestType, Service):
        schema = model.model_json_schema(ref_template=_REFERENCE, schema_generator=Generator)
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    for model in (Monitored, Options, Steering, Rehearsed):
        schema = model.model_json_schema(ref_template=_REFERENCE, schema_generator=Generator, mode="serialization")
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    found["Rehearsed"]["properties"] |= {"party": _NAME, "summary": _ANY}
    found["Steer"] = {**found["Steering"], "title": "Steer", "required": [], "additionalProperties": False}
    plain = {**found.pop("Request"), "title": "PlainRequest"}
    plain["properties"] = {**plain["properties"], "jobId": _JOB_ID}
    plain["required"] = [name for name in plain["required"] if name != "user"]
    return found | {"PlainRequest": plain, "UpstreamRequest": _UPSTREAM, "Approval": _APPROVAL, **_OTHERS}


_JOB_ID = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", "description": "The id of the job"}
_NAME = {"type": "string", "pattern": _NAME_PATTERN}
_TEXTS = {"type": "object", "additionalProperties": TEXT_TYPE}
_UPSTREAM: Schema = {
    "title": "UpstreamRequest",
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "dataProviders", "data_request"],
    "properties": {
        "type": _NAME,
        "user": {
            "type": "object",
            "additionalProperties": False,
            "required": ["userName"],
            "properties": {"id": TEXT_TYPE, "userName": TEXT_TYPE},
        },
        "dataProviders": {"type": "array", "items": _NAME, "minItems": 1, "uniqueItems": True},
        "data_request": {
            "type": "object",
            "additionalProperties": False,
            "required": ["query"],
            "properties": {
                "type": _NAME,
                "query": TEXT_TYPE,
                "algorithm": TEXT_TYPE,
                "algorithmColumns": _TEXTS,
                "options": {"type": "object", "additionalProperties": {"type": "boolean"}},
                "requestMetadata": {**_ANY, "description": "Accepted and ignored"},
            },
        },
        "archetype": _NAME,
        "computeProvider": _NAME,
        "deadline": {"type": "string", "pattern": r"^[0-9]{1,6}(ms|s|m)?$"},
        "jobId": _JOB_ID,
    },
}
_OUTCOME: Schema = {
    "type": "object",
    "required": ["outcome"],
    "properties": {"outcome": {"enum": ["answered", "refused", "failed", "left-out", "under-way"]}},
}
_APPROVAL: Schema = {
    "title": "Approval",
    "type": "object",
    "required": ["jobId", "responses", "results", "providers"],
    "properties": {
        "jobId": TEXT_TYPE,
        "responses": {"type": "array", "items": TEXT_TYPE},
        "results": {"type": "array", "items": _ANY},
        "providers": {"type": "object", "additionalProperties": _OUTCOME},
        "decision": _ANY,
        "archetypes": _TEXTS,
        "timings": _ANY,
        "links": _TEXTS,
    },
}
_OTHERS: dict[str, Schema] = {
    "Job": {
        "title": "Job",
        "type": "object",
        "required": ["id", "user", "state", "request", "decision"],
        "properties": {"id": TEXT_TYPE, "user": TEXT_TYPE, "state": TEXT_TYPE, "request": _ANY, "decision": _ANY},
    },
    "Checked": {
        "title": "Checked",
        "type": "object",
        "required": ["runs", "permitted", "reasons", "decision"],
        "properties": {"runs": {"type": "boolean"}, "permitted": {"type": "array", "items": TEXT_TYPE}},
    },
    "Trace": {
        "title": "Trace",
        "type": "object",
        "required": ["job", "trace", "spans"],
        "properties": {"job": TEXT_TYPE, "trace": TEXT_TYPE, "spans": {"type": "array", "items": _ANY}},
    },
    "Problem": {
        "title": "Problem",
        "description": "RFC 9457",
        "type": "object",
        "required": ["type", "title", "status", "code"],
        "properties": {
            "type": TEXT_TYPE,
            "title": TEXT_TYPE,
            "status": {"type": "integer"},
            "detail": TEXT_TYPE,
            "code": TEXT_TYPE,
            "where": TEXT_TYPE,
            "hint": TEXT_TYPE,
            "reasons": {"type": "array", "items": _ANY},
            "mistakes": {"type": "array", "items": _ANY},
            "instance": TEXT_TYPE,
        },
    },
}
_PROBLEM = {"description": "What went wrong", "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}}}
_OPEN_PATHS = ("/", "/healthz", "/readyz", "/.well-known/jwks.json")


def describe(app: FastAPI) -> Schema:
    """Give the OpenAPI document of the application, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        components = made.setdefault("components", {})
        components["schemas"] = {**components.get("schemas", {}), **schemas()}
        components["responses"] = {"Problem": _PROBLEM}
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        made["security"] = [{"bearer": []}]
        for path in _OPEN_PATHS:
            for operation in made["paths"].get(path, {}).values():
                operation["security"] = []
        app.openapi_schema = made
    return app.openapi_schema
