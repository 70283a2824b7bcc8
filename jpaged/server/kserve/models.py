"""GET /v2/…: is it alive, is it ready, what are its models."""

from fastapi import APIRouter, Request, Response

from jpaged import __version__
from jpaged.server.answering import LOOKS, Route, service_of
from jpaged.server.errors import Draining, EngineFailed, UnknownModel
from jpaged.server.kserve.protocol import (
    EXCLUDE_INPUT,
    SAMPLING,
    TEXT_INPUT,
    TEXT_OUTPUT,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    TensorMetadata,
)
from jpaged.server.models import Served
from jpaged.server.plain import plain_answers
from jpaged.server.sse import Json

router = APIRouter(tags=["KServe"], route_class=Route)
# the decorator below is matched first: a name may have slashes
VERSION, MODEL = "/v2/models/{model:path}/versions/{version}", "/v2/models/{model:path}"
READY, METADATA = plain_answers(ModelReady, (*LOOKS, 503)), plain_answers(ModelMetadata, LOOKS)
INPUTS = [
    TensorMetadata(TEXT_INPUT, "BYTES", [-1]),
    TensorMetadata(SAMPLING, "BYTES", [1]),
    TensorMetadata(EXCLUDE_INPUT, "BOOL", [1]),
]
OUTPUTS = [TensorMetadata(TEXT_OUTPUT, "BYTES", [-1])]


def find(request: Request, model: str, version: str) -> Served:
    """Raises `UnknownModel`."""
    if not model:  # the first model is for requests that name none
        raise UnknownModel(model)
    return service_of(request).models.find(f"{model}@{version}" if version else model)


@router.get("/v2", responses=plain_answers(ServerMetadata, LOOKS))
async def server_metadata() -> Response:
    return Json(ServerMetadata("jpaged", __version__, ["generate"]))


@router.get("/v2/health/live", responses=plain_answers(Live, LOOKS))
async def live() -> Response:
    """It answers, so it is."""
    return Json(Live(True))


@router.get("/v2/health/ready", responses=plain_answers(Ready, (*LOOKS, 503)))
async def ready(request: Request) -> Response:
    """200 while it takes work; 503 while it shuts down, and if an engine does not run."""
    service = service_of(request)
    if service.is_draining:
        raise Draining
    if not service.models.is_healthy:
        raise EngineFailed("An engine is not running.", status=503)
    return Json(Ready(True))


@router.get(f"{MODEL}/ready", responses=READY)
@router.get(f"{VERSION}/ready", responses=READY, operation_id="version_ready")
async def model_ready(request: Request, model: str, version: str = "") -> Response:
    """200 while its engine takes work."""
    served = find(request, model, version)
    if service_of(request).is_draining:
        raise Draining
    if not served.engine.is_healthy:
        raise EngineFailed("The engine of this model is not running.", status=503)
    return Json(ModelReady(model, True))


@router.get(MODEL, responses=METADATA)
@router.get(VERSION, responses=METADATA, operation_id="version_metadata")
async def model_metadata(request: Request, model: str, version: str = "") -> Response:
    """Its versions, and the tensors it takes and gives."""
    served = find(request, model, version)
    versions = [each.version for each in service_of(request).models if each.name == served.name]
    return Json(ModelMetadata(served.name, versions, "jpaged", INPUTS, OUTPUTS))
