"""What orchestrators ask: is it alive, does it take work, how much has it to do."""

import msgspec
from fastapi import APIRouter, Request, Response

from jpaged import __version__
from jpaged.server.answering import LOOKS, Route, answers, service_of
from jpaged.server.errors import Draining, EngineFailed
from jpaged.server.sse import Json

router = APIRouter(tags=["Probes"], route_class=Route)


class Version(msgspec.Struct):
    version: str


class Load(msgspec.Struct):
    server_load: int


class Nothing(msgspec.Struct):
    pass


@router.get("/health", responses=answers(Nothing, (*LOOKS, 503)))
@router.get("/ping", responses=answers(Nothing, (*LOOKS, 503)))
@router.post("/ping", responses=answers(Nothing, (*LOOKS, 503)), operation_id="ping_by_post")
async def health(request: Request) -> Response:
    """200 while it takes work; 503 while it shuts down, and if an engine does not run."""
    service = service_of(request)
    if service.is_draining:
        raise Draining
    if not service.models.is_healthy:
        raise EngineFailed("An engine is not running.", status=503)
    return Json(Nothing())


@router.get("/version", responses=answers(Version, LOOKS))
async def version() -> Response:
    return Json(Version(__version__))


@router.get("/load", responses=answers(Load, LOOKS))
async def load(request: Request) -> Response:
    """Requests under way, waiting ones too."""
    return Json(Load(len(service_of(request).live)))
