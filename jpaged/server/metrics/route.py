"""GET /metrics."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from jpaged.server.answering import LOOKS, Route, answers

TEXT = "text/plain; version=0.0.4; charset=utf-8"  # no name needs what came later
router = APIRouter(tags=["Probes"], route_class=Route)


ANSWERS = answers(str, LOOKS)
ANSWERS[200]["content"] = {"text/plain": {"schema": {"type": "string"}}}


@router.get("/metrics", responses=ANSWERS, response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """All metrics, as Prometheus reads them."""
    return Response(request.app.state.metrics.text(), media_type=TEXT)
