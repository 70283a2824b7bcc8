"""The application: routes of all protocols behind the edge and the keys.

    edge ─► whose pages may ask ─► keys ─► body ─► router of a protocol ─► Service

A protocol is a router in a file of its own, and a row in `ROUTERS`.
"""

import logging
import re
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from jpaged import __version__
from jpaged.errors import RequestRejected
from jpaged.server import admin, probes, simple_generate
from jpaged.server.auth import OPEN, Auth
from jpaged.server.body import Body
from jpaged.server.browsers import Names, names_of
from jpaged.server.edge import Edge
from jpaged.server.errors import ApiError, ChatRefused, error_response
from jpaged.server.exchange import Watch, note_refusal
from jpaged.server.heads import Heads
from jpaged.server.kserve import generate as kserve_generate
from jpaged.server.kserve import models as kserve_models
from jpaged.server.metrics import route as metrics_route
from jpaged.server.ollama import generating as ollama_generating
from jpaged.server.ollama import models as ollama_models
from jpaged.server.openai import chat, completions, models, tokenize
from jpaged.server.openai.protocol import Sampling
from jpaged.server.options import ServerOptions
from jpaged.server.page import page_api
from jpaged.server.page.front import Front
from jpaged.server.plain import is_plain, plain
from jpaged.server.sentences import SENTENCE
from jpaged.server.service import Service
from jpaged.server.watching import watched

log = logging.getLogger(__name__)
ROUTERS = (
    probes.router,
    metrics_route.router,
    completions.router,
    chat.router,
    models.router,
    tokenize.router,
    simple_generate.router,
    ollama_generating.router,
    ollama_models.router,
    kserve_generate.router,
    kserve_models.router,
    page_api.router,
    admin.router,
)
MAX_PROBLEMS = 5  # told of one request
NOT_THERE_YET = frozenset({"/v1/responses", "/v1/embeddings", "/api/embed", "/api/embeddings"})


def build_app(service: Service, options: ServerOptions) -> FastAPI:
    """The ASGI application of a server.  Begins and ends nothing: `serve.py` does."""
    metrics, watchers = watched(service, options)
    app = FastAPI(
        title="jpaged",
        version=__version__,
        description="Paged LLM serving in JAX, in the words of OpenAI, vLLM, Ollama and KServe.",
        middleware=[Middleware(Watch, listeners=watchers), *_middleware(options)],
        exception_handlers={
            HTTPException: _on_http_error,
            RequestValidationError: _on_invalid,
            RequestRejected: _on_rejected,
            Exception: _on_anything,
        },
        redirect_slashes=False,
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
    )
    app.state.service, app.state.options, app.state.metrics = service, options, metrics
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = lambda: _openapi(app)
    return app


def _middleware(options: ServerOptions) -> list[Middleware]:
    is_open = OPEN | {"/metrics"} if options.open_metrics else OPEN
    origins = list(options.allowed_origins)
    is_for_us = options.is_loopback and not options.api_key
    names = [Middleware(Names, allowed=names_of(options.allowed_origins))] if is_for_us else ()
    cors = [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id", "X-Request-Timeout"],
        )
    ]
    return [
        Middleware(Edge),
        *names,
        *(cors if origins else ()),  # before the keys: a browser's preflight has none
        Middleware(Front, is_guarded=bool(options.api_key)),
        Middleware(Auth, keys=options.api_key, is_open=frozenset(is_open)),
        Middleware(Body, max_body_bytes=options.max_body_bytes),
        Middleware(Heads),
    ]


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = getattr(request.scope.get("route"), "path", "")
    if error.status_code == 405 and (methods := _methods_at(path)):
        # the framework names those of the first route with this path
        error = ApiError(405, error.detail, headers={"allow": ", ".join(sorted(methods))})
    if request.scope["path"] in NOT_THERE_YET:
        error = ApiError(404, f"{request.scope['path']} is not there yet.")
    return _refusal(request, error)


def _refusal(request: Request, error: HTTPException) -> Response:
    """In the words of the protocol that was asked for."""
    note_refusal(error)
    response = error_response(error)
    return plain(response) if is_plain(request.scope["path"]) else response


def _methods_at(path: str) -> set[str]:
    """Those that are declared for a path."""
    routes = [each for router in ROUTERS for each in router.routes if isinstance(each, APIRoute)]
    return {method for each in routes if each.path == path for method in each.methods or ()}


async def _on_rejected(request: Request, error: Exception) -> Response:
    """The engine's words begin with the option that they are about."""
    text = str(error)[:2000]
    name = re.split(r"[ =]", text, maxsplit=1)[0]
    is_field = name in Sampling.model_fields or name in ("logprobs", "max_tokens")
    reason = "the chat template refused the messages" if isinstance(error, ChatRefused) else ""
    return _refusal(request, ApiError(400, text, name if is_field else None, reason=reason))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Pydantic's problems: what, and in which field."""
    assert isinstance(error, RequestValidationError)
    problems, fields = [], []
    for problem in error.errors()[:MAX_PROBLEMS]:
        place = ".".join(str(step)[:100] for step in problem["loc"][1:]) or "body"
        fields.append(str(problem["loc"][1])[:100] if len(problem["loc"]) > 1 else None)
        unknown = problem["type"] == "extra_forbidden"
        said = "unknown field" if unknown else problem["msg"]
        problems.append(f"{place}{' ' if problem['type'] == SENTENCE else ': '}{said}")
    return _refusal(request, ApiError(400, "; ".join(dict.fromkeys(problems)), fields[0]))


async def _on_anything(request: Request, error: Exception) -> Response:
    """What nobody foresaw.  Its text is for the log: it could tell of the inside."""
    request_id = request.scope.get("state", {}).get("request_id")
    log.error("request %s: %s", request_id, type(error).__name__, exc_info=error)
    return _refusal(request, ApiError(500, "Internal server error."))


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's, less the 422 that it promises and we never answer."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for methods in schema["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            schema.get("components", {}).get("schemas", {}).pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema
