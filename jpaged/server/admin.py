"""/admin/…: load a version, move labels to it, unload the old one; no request is lost.

Behind the keys like everything else; where the server has none, only from the same machine.
"""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from jpaged.errors import ConfigError, EngineDied, UnsupportedModel
from jpaged.server.answering import READS, Route, answers, service_of
from jpaged.server.errors import ApiError
from jpaged.server.models import Served, split_name
from jpaged.server.openai.protocol import ModelName, ShortText, Strict
from jpaged.server.roots import allowed_folder
from jpaged.server.sse import Json

LOOPBACK = ("127.0.0.1", "::1")
LOCAL_NAMES = ("localhost", *LOOPBACK, "[::1]")
FORWARDED = ("forwarded", "x-forwarded-for", "via")  # somebody speaks for somebody else
MAY_FAIL = (*READS, 503)


async def only_admins(request: Request) -> None:
    """Raises `ApiError`.  A page in a browser here is not one, whatever its name resolves to."""
    if request.app.state.options.api_key:
        return
    host, _, port = request.headers.get("host", "").rpartition(":")
    named = host if port.isdigit() else request.headers.get("host", "")
    is_here = request.client is None or request.client.host in LOOPBACK
    if not is_here or named not in LOCAL_NAMES or any(map(request.headers.get, FORWARDED)):
        raise ApiError(403, "Without API keys, models are administered from the same machine.")


router = APIRouter(
    prefix="/admin", tags=["Models"], route_class=Route, dependencies=[Depends(only_admins)]
)


class LoadRequest(Strict):
    """model: name@version.  path: a folder within an allowed root.  labels: they move to it."""

    model: ModelName
    path: Annotated[str, Field(max_length=4096)]
    labels: Annotated[list[ShortText], Field(max_length=16)] = []


class UnloadRequest(Strict):
    model: ModelName


class LabelsRequest(Strict):
    """labels: each with the version it points to from now on, null to take it away."""

    model: ModelName
    labels: Annotated[dict[str, ShortText | None], Field(min_length=1, max_length=16)]


class VersionInfo(msgspec.Struct):
    model: str
    version: str
    labels: list[str]
    num_queued: int
    num_live: int
    is_healthy: bool


class Versions(msgspec.Struct):
    models: list[VersionInfo]


@router.get("/models", responses=answers(Versions, MAY_FAIL))
async def versions(request: Request) -> Response:
    """What is loaded, what points to it, and how much it has to do."""
    return Json(_versions(request))


@router.post("/models/load", responses=answers(Versions, MAY_FAIL))
async def load(body: LoadRequest, request: Request) -> Response:
    """Loads a version beside the others, and answers when it serves."""
    folder = allowed_folder(body.path, request.app.state.options.model_root)
    name, version = split_name(body.model)
    try:
        await service_of(request).models.load(name, version, folder, tuple(body.labels))
    except (ConfigError, UnsupportedModel, EngineDied) as error:
        raise ApiError(400, f"{body.model} was not loaded: {error}", "path") from error
    return Json(_versions(request))


@router.post("/models/unload", responses=answers(Versions, MAY_FAIL))
async def unload(body: UnloadRequest, request: Request) -> Response:
    """Lets a version finish what it has begun, and closes it then."""
    await service_of(request).models.unload(*split_name(body.model))
    return Json(_versions(request))


@router.post("/labels", responses=answers(Versions, MAY_FAIL))
async def move_labels(body: LabelsRequest, request: Request) -> Response:
    """Moves labels, all at once: who asks for `name@stable` gets the new one from now on."""
    service_of(request).models.move_labels(body.model, body.labels)
    return Json(_versions(request))


def _versions(request: Request) -> Versions:
    models = service_of(request).models
    return Versions([_describe(served, models.labels(served.name)) for served in models])


def _describe(served: Served, labels: dict[str, str]) -> VersionInfo:
    admission = served.admission
    return VersionInfo(
        model=served.name,
        version=served.version,
        labels=sorted(label for label, version in labels.items() if version == served.version),
        num_queued=admission.num_queued,
        num_live=admission.num_live,
        is_healthy=served.engine.is_healthy,
    )
