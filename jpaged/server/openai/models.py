"""GET /v1/models, and one of them."""

from fastapi import APIRouter, Request, Response

from jpaged.server.answering import LOOKS, Route, answers, service_of
from jpaged.server.errors import UnknownModel
from jpaged.server.models import Served
from jpaged.server.openai.answers import ModelInfo, ModelList, ModelPermission
from jpaged.server.sse import Json

router = APIRouter(tags=["OpenAI"], route_class=Route)


@router.get("/v1/models", responses=answers(ModelList, LOOKS))
async def list_models(request: Request) -> Response:
    """All names that requests may give; versions and labels where a model has several."""
    names = service_of(request).models.names()
    return Json(ModelList([describe(name, served) for name, served in names.items()]))


@router.get("/v1/models/{model:path}", responses=answers(ModelInfo, LOOKS))
async def retrieve_model(model: str, request: Request) -> Response:
    if not model:  # the first model is for requests that name none
        raise UnknownModel(model)
    return Json(describe(model, service_of(request).models.find(model)))


def describe(name: str, served: Served) -> ModelInfo:
    card = served.engine.card
    permission = ModelPermission(f"modelperm-{served.name}-{served.version}", card.created)
    return ModelInfo(name, card.created, served.name, card.max_model_len, [permission])
