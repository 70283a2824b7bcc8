"""GET /api/tags, /api/ps, /api/version and POST /api/show: which models there are, and how.

What is listed is what is loaded: nothing is loaded on demand, so nothing else can be asked for.
"""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

from jpaged import __version__
from jpaged.engine.client import ModelCard
from jpaged.server.answering import LOOKS, READS, Route, service_of
from jpaged.server.errors import UnknownModel
from jpaged.server.models import Served
from jpaged.server.ollama.answers import (
    Details,
    Listed,
    Running,
    RunningList,
    Shown,
    Tags,
    Version,
    timestamp,
)
from jpaged.server.ollama.protocol import ShowRequest
from jpaged.server.plain import plain_answers
from jpaged.server.sse import Json

LATEST = ":latest"
LEVELS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
UNITS = (("B", 1e9), ("M", 1e6), ("K", 1e3), ("", 1))

router = APIRouter(tags=["Ollama"], route_class=Route)


def find(request: Request, model: str) -> Served:
    """By name, which clients may give a tag: `:latest` is the one without.  Raises `ApiError`."""
    models = service_of(request).models
    try:
        return models.find(model)
    except UnknownModel:
        if not model.endswith(LATEST):
            raise
        return models.find(model.removesuffix(LATEST))


@router.get("/api/tags", responses=plain_answers(Tags, LOOKS))
async def tags(request: Request) -> Response:
    """The models that requests may name."""
    names = service_of(request).models.names()
    return Json(Tags([_listed(name, served.engine.card) for name, served in names.items()]))


@router.get("/api/ps", responses=plain_answers(RunningList, LOOKS))
async def ps(request: Request) -> Response:
    """The same: they are loaded, and stay."""
    names = service_of(request).models.names()
    return Json(RunningList([_running(name, served.engine.card) for name, served in names.items()]))


@router.get("/api/version", responses=plain_answers(Version, LOOKS))
async def version() -> Response:
    """Ours, not Ollama's."""
    return Json(Version(__version__))


@router.post("/api/show", responses=plain_answers(Shown, READS))
async def show(body: ShowRequest, request: Request) -> Response:
    """What a model is, and how its tokens are chosen where a request is silent."""
    name = body.model or body.name or ""
    if not name:
        raise UnknownModel(name)
    served = find(request, name)
    card, kind = served.engine.card, served.engine.card.architecture
    return Json(
        Shown(
            modelfile=f"FROM {served.name}\n",
            parameters="\n".join(f"{name} {value}" for name, value in served.defaults.items()),
            template=served.chat_template or "",
            details=_details(card),
            model_info={
                "general.architecture": kind,
                "general.parameter_count": card.num_parameters,
                f"{kind}.context_length": card.max_model_len,
                f"{kind}.vocab_size": card.vocab,
            },
            capabilities=["completion"],
            modified_at=_modified(card),
        )
    )


def _listed(name: str, card: ModelCard) -> Listed:
    return Listed(name, name, _modified(card), _size(card), _digest(card), _details(card))


def _running(name: str, card: ModelCard) -> Running:
    size = _size(card)
    return Running(name, name, size, _digest(card), _details(card), size, card.max_model_len)


def _details(card: ModelCard) -> Details:
    kind = card.architecture
    level = LEVELS.get(card.dtype, card.dtype)
    return Details(kind, [kind], parameter_size(card.num_parameters), level)


def parameter_size(count: int) -> str:
    """3.8M, 7.6B"""
    unit, size = next((unit, size) for unit, size in UNITS if count >= size or size == 1)
    return f"{count / size:.1f}{unit}"


def _files(card: ModelCard) -> list[Path]:
    """None, if somebody removed them since they were loaded."""
    return sorted(each for each in Path(card.folder).glob("*") if each.is_file())


def _size(card: ModelCard) -> int:
    """Of the checkpoint's files."""
    return sum(each.stat().st_size for each in _files(card))


def _modified(card: ModelCard) -> str:
    return timestamp(max((each.stat().st_mtime for each in _files(card)), default=card.created))


def _digest(card: ModelCard) -> str:
    """Of the names and sizes of its files: reading them would take minutes."""
    files = "\n".join(f"{each.name} {each.stat().st_size}" for each in _files(card))
    return hashlib.sha256(files.encode()).hexdigest()
