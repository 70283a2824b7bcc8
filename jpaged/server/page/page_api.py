"""GET / and what the page asks for: which models there are, and how an engine is doing.

Chats go where everybody's go, to /v1.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from fastapi import APIRouter, Request, Response

from jpaged.engine.client import EngineDied
from jpaged.server.answering import Route, service_of
from jpaged.server.errors import EngineFailed
from jpaged.server.models import Served
from jpaged.server.page.assets import page
from jpaged.server.page.snapshots import Watch
from jpaged.server.service import Service
from jpaged.server.sse import Json, Stream, event

# no part of the API that others may rely on
router = APIRouter(route_class=Route, include_in_schema=False)


class ModelInfo(msgspec.Struct):
    name: str
    has_chat: bool
    max_model_len: int
    num_parameters: int
    architecture: str
    dtype: str
    max_num_seqs: int
    temperature: float


@router.get("/")
async def index() -> Response:
    return page()


@router.get("/page/models")
async def models(request: Request) -> Response:
    """The models that one may talk to."""
    names = service_of(request).models.names()
    return Json([_described(name, served) for name, served in names.items()])


def _described(name: str, served: Served) -> ModelInfo:
    card = served.engine.card
    return ModelInfo(
        name=name,
        has_chat=served.chat_template is not None,
        max_model_len=card.max_model_len,
        num_parameters=card.num_parameters,
        architecture=card.architecture,
        dtype=card.dtype,
        max_num_seqs=card.max_num_seqs,
        temperature=served.defaults.get("temperature", 1.0),
    )


@router.get("/page/watch")
async def watch(request: Request, model: str = "") -> Response:
    """A snapshot of the model's engine, several times a second."""
    state = request.app.state
    if not hasattr(state, "watches"):
        state.watches = {}
    viewer = Viewer(state.watches, state.service, state.service.models.find(model))
    return Stream([viewer], viewer.events())


class Viewer:
    """Somebody who watches; all who watch a model see the same snapshots."""

    def __init__(self, watches: dict[Served, Watch], service: Service, served: Served):
        self.watches, self.service, self.served = watches, service, served
        self.watch = watches.setdefault(served, Watch(service, served))
        self.watch.begin()

    async def events(self) -> AsyncIterator[bytes]:
        while not self.service.is_draining:
            try:
                yield event(await self.watch.look())
            except EngineDied as error:
                raise EngineFailed("The engine stopped.", status=503) from error
            await asyncio.sleep(self.watch.period)

    async def close(self) -> None:
        self.watch.end()
        if not self.watch.num_viewers:
            del self.watches[self.served]
