"""The schema of the router application's arguments: models, routes, limits and keys.

Knows names, ranges and defaults. Knows nothing of Ray, HTTP, or what a route computes.
"""

from typing import Annotated

from pydantic import Field

from rewardserve.route_settings import RouteSettings
from rewardserve.settings import Settings


class Limits(Settings):
    """What one request may ask for; anything above is refused before it is tokenised."""

    max_body_bytes: Annotated[int, Field(ge=1)] = 4_000_000
    max_conversations: Annotated[int, Field(ge=1)] = 512
    """In one request."""
    max_messages: Annotated[int, Field(ge=1)] = 256
    """In one conversation."""
    max_chars: Annotated[int, Field(ge=1)] = 400_000
    """In one conversation; tokenising takes time in proportion."""
    default_deadline_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """For requests that name none."""


class Auth(Settings):
    """Who may ask."""

    api_keys_env: str
    """Environment variable with the keys, or their SHA-256 as `sha256:<hex>`, comma-separated."""


class RouterSettings(Settings):
    """The router: which models it asks, by which routes, for whom."""

    models: Annotated[list[str], Field(min_length=1)]
    """Application names of the reward models."""
    routes: dict[str, RouteSettings] = Field(default_factory=dict)
    """Name -> route; a request that names no model asks for the route `default`."""
    calibration: str | None = None
    """Folder of the calibrations that `zscore` and `quantile` need, readable on every node."""
    limits: Limits = Limits()
    auth: Auth | None = None
    """Left out, everybody who reaches the port may ask."""
    replicas: Annotated[int, Field(ge=1)] = 2
    """One router replica that dies is a gap of seconds; two are none."""
    cpus: Annotated[float, Field(gt=0)] = 0.5
    """CPUs that Ray sets aside for each replica."""
