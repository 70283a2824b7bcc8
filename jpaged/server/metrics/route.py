"""GET /metrics."""

from fastapi import APIRouter, Request, Response

from jpaged.server.answering import LOOKS, Route, answers

TEXT = "text/plain; version=0.0.4; charset=utf-8"  # no name needs what came later
router = APIRouter(tags=["Probes"], route_class=Route)


@router.get("/metrics", responses=answers(str, LOOKS), response_class=Response)
async def metrics(request: Request) -> Response:
    """All metrics, as Prometheus reads them."""
    return Response(request.app.state.metrics.text(), media_type=TEXT)
