"""The web application: its routes, and how errors become problem documents."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import dynamos
from dynamos.kit.errors import DynamosError, Mistake, Mistakes
from dynamos.middleware.api import problems
from dynamos.middleware.api.desks import Desk
from dynamos.middleware.api.edge import Edge
from dynamos.middleware.api.peers import Elsewhere, elsewhere
from dynamos.middleware.api.routes import (
    adaptation,
    approval,
    decisions,
    docs,
    health,
    jobs,
    knowledge,
    providers,
    rehearsals,
)

DESCRIPTION = """\
Ask for a query and an algorithm over data that several parties hold. Agreements decide whether and how it runs.

Errors are problem documents (RFC 9457) with a `code`, a place (`where`) and a `hint`.
"""
SPARE_REQUESTS = 256


def application(desk: Desk) -> FastAPI:
    """Give the application that answers with this desk."""
    settings = desk.config.settings
    app = FastAPI(
        title="DYNAMOS",
        version=dynamos.__version__,
        summary="Data exchange between organisations, under their agreements.",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    app.include_router(health.router)
    for part in (approval, jobs, providers, knowledge, rehearsals, adaptation, decisions):
        app.include_router(part.router)
    app.add_exception_handler(DynamosError, _known)
    app.add_exception_handler(Elsewhere, elsewhere)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_middleware(
        Edge,
        metrics=desk.metrics,
        open=settings.open,
        limit=settings.concurrent_jobs + settings.waiting_jobs + SPARE_REQUESTS,
        leaving=lambda: desk.leaving,
    )
    app.openapi = lambda: docs.describe(app)  # type: ignore[method-assign]
    return app


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, DynamosError)
    return problems.response(error, instance=request.url.path)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = problems.of_http(error.status_code, str(error.detail), error.headers)
    return problems.response(known, instance=request.url.path)


async def _parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    mistakes = [Mistake(".".join(str(step) for step in item["loc"]), item["msg"]) for item in error.errors()]
    return problems.response(Mistakes(mistakes, subject="the request"), instance=request.url.path)
