"""The HTTP face: the native routes, the dialects, and what stands in front of all of them.

Every route hangs on one of two routers: `open_routes` (is the cluster alive, is it ready) or the
closed one, which asks for a key when keys are configured. A new route is closed unless it is put on
the open router. Knows nothing of Ray: it is given a `Service`.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.middleware import Middleware

from rewardserve.serving.auth import ApiKeys
from rewardserve.serving.dialects import DIALECTS
from rewardserve.serving.error_responses import DOCUMENTED, add_error_handlers
from rewardserve.serving.limits import RequestLimit
from rewardserve.serving.logs import RequestIds
from rewardserve.serving.service import Service
from rewardserve_client._types import RewardsRequest, RewardsResponse, ServedModels


def build_http_app(service: Service, *, max_body_bytes: int, keys: ApiKeys | None) -> FastAPI:
    """The ASGI app that answers for `service`; without `keys` everybody may ask."""
    limit = Middleware(
        RequestLimit, max_bytes=max_body_bytes, may_send=keys.accepts_header if keys else None
    )
    app = FastAPI(
        title="rewardserve",
        description="Scores of reward models. Raw, finite, and never a failure in disguise.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[Middleware(RequestIds), limit],
    )
    add_error_handlers(app)
    app.include_router(open_routes(service))
    closed = [native_routes(service), documentation(app), *(make(service) for make in DIALECTS)]
    guards = [Depends(keys)] if keys else []
    for router in closed:
        app.include_router(router, dependencies=guards)
    return app


def open_routes(service: Service) -> APIRouter:
    """What a load balancer may ask without a key."""
    router = APIRouter(tags=["state"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @router.get("/ready", responses={503: {"description": "A model that should answer does not."}})
    async def ready() -> Response:
        """Every model with a minimum of one replica answers."""
        missing = await service.unready_models()
        status = "waiting" if missing else "ready"
        return JSONResponse({"status": status, "waiting_for": missing}, 503 if missing else 200)

    return router


def native_routes(service: Service) -> APIRouter:
    """This project's own protocol."""
    router = APIRouter(tags=["rewards"])

    @router.post("/v1/rewards", response_model=RewardsResponse, responses=DOCUMENTED)
    async def rewards(body: Annotated[RewardsRequest, Body()]) -> Response:
        """Scores for conversations, or for several responses to one prompt."""
        answer = await service.rewards(body)
        return Response(
            answer.model_dump_json(),
            media_type="application/json",
            headers={"Server-Timing": _server_timing(answer.timings_ms)},
        )

    @router.get("/v1/models", responses={401: DOCUMENTED[401]})
    async def models() -> ServedModels:
        """Models and routes that a request may name."""
        return await service.served_models()

    return router


def documentation(app: FastAPI) -> APIRouter:
    """The OpenAPI document and its page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(openapi_url=f"{root}/openapi.json", title=app.title)

    return router


def _server_timing(timings_ms: dict[str, float]) -> str:
    return ", ".join(f"{name};dur={milliseconds:.1f}" for name, milliseconds in timings_ms.items())
