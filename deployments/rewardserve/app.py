"""Builders: settings in, Serve applications out. The only place where deployments are made.

`serve deploy` and `rewardserve up` find them by import path, one application per reward model and
one for the router. Ray reads the annotation of their one parameter, so it is not a string.
"""

from typing import Any, Final

from ray import serve
from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY

from rewardserve.serving.gateway import Gateway
from rewardserve.serving.model_client import Resolver
from rewardserve.serving.model_states import running_model
from rewardserve.serving.reward_model import RewardModel
from rewardserve.serving.router_settings import RouterSettings
from rewardserve.settings import ModelSettings

LEAST_WORK: Final = "rewardserve.serving.replica_choice:LeastWorkRouter"
BACKLOG_POLICY: Final = "rewardserve.serving.autoscaling:BacklogPolicy"

COMMON: Final[dict[str, Any]] = {
    # Calls queue in the replica, counted in tokens, where they are refused at once when it is full.
    # Serve's own limits are further out, and only bound what a flood of tiny calls could pile up.
    "max_ongoing_requests": 2048,
    "max_queued_requests": 2048,
    "backpressure_config": {"status_code": 429, "retry_after_s": 1.0},
    "graceful_shutdown_timeout_s": 60,
    "health_check_period_s": 5,
    "health_check_timeout_s": 10,
}


def model(settings: ModelSettings) -> serve.Application:
    """The application of one reward model."""
    # num_gpus is given even when it is 0: left out, the process would see every GPU.
    actor: dict[str, Any] = {"num_cpus": settings.cpus, "num_gpus": settings.gpus}
    if settings.accelerator_type:
        actor["accelerator_type"] = settings.accelerator_type
    replicas = settings.replicas
    deployment = serve.deployment(
        name="RewardModel",
        ray_actor_options=actor,
        autoscaling_config={
            "min_replicas": replicas.min,
            "max_replicas": replicas.max,
            "upscale_delay_s": replicas.up_after_s,
            "downscale_delay_s": replicas.down_after_s,
            "downscale_to_zero_delay_s": replicas.zero_after_s,
            "policy": {"policy_function": BACKLOG_POLICY},
        },
        request_router_config=replica_choice(),
        **COMMON,
    )
    return deployment(RewardModel).bind(settings)


def replica_choice() -> dict[str, Any]:
    """By outstanding work; Serve's own way where Ray's HAProxy is on, which allows no other."""
    return {} if RAY_SERVE_ENABLE_HA_PROXY else {"request_router_class": LEAST_WORK}


def router(settings: RouterSettings) -> serve.Application:
    """The application that answers requests by asking the running models."""
    return router_for(settings, running_model)


def router_for(settings: RouterSettings, resolver: Resolver) -> serve.Application:
    """The same with models found by `resolver`."""
    deployment = serve.deployment(
        name="Gateway",
        num_replicas=settings.replicas,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": 0},
        **COMMON,
    )
    return deployment(serve.ingress()(Gateway)).bind(settings, resolver)
