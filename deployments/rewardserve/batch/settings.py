"""What one bulk run is asked to do. Everything here is part of the output's fingerprint."""

from typing import Annotated

from pydantic import Field, model_validator

from rewardserve.batch.units import UNIT_ROWS
from rewardserve.route_settings import RouteSettings
from rewardserve.routing.calibration import Calibration
from rewardserve.routing.plan import Plan, resolve
from rewardserve.settings import ModelSettings, Settings


class BulkModel(Settings):
    """A model and the name that its columns carry."""

    name: str
    settings: ModelSettings


class BulkRoutes(Settings):
    """A router's routes, and which of them are evaluated over the models' rewards."""

    names: tuple[str, ...] = ()
    """The routes whose rewards are wanted."""
    models: tuple[str, ...] = ()
    """All models of the router; those behind `names` are models of the run."""
    routes: dict[str, RouteSettings] = Field(default_factory=dict)
    calibrations: dict[str, Calibration] = Field(default_factory=dict)

    def plan(self) -> Plan:
        """The same plan as the router's; raises SettingsError naming the route."""
        return resolve(self.routes, self.models, self.calibrations)

    def behind(self) -> list[str]:
        """`names`, and the routes that they are made of, each once."""
        found: dict[str, None] = {}
        waiting = list(self.names)
        while waiting:
            name = waiting.pop(0)
            if name in self.routes and name not in found:
                found[name] = None
                waiting += self.routes[name].names
        return list(found)


class BulkSettings(Settings):
    """How a corpus is read and scored."""

    models: Annotated[tuple[BulkModel, ...], Field(min_length=1)]
    routes: BulkRoutes = BulkRoutes()
    columns: dict[str, str] = Field(default_factory=dict)
    """Role -> column, where the columns' own names are not enough."""
    truncate: bool = False
    """Shorten conversations over the model's limit instead of calling them bad rows."""
    unit_rows: Annotated[int, Field(ge=1)] = UNIT_ROWS
    """Rows of one part file; rows of one part share the prefixes they have in common."""

    @property
    def names(self) -> list[str]:
        """Whose columns the output has: the models, then the routes."""
        return [*(model.name for model in self.models), *self.routes.names]

    @model_validator(mode="after")
    def _distinct(self) -> "BulkSettings":
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"two models are called the same: {', '.join(self.names)}")
        return self
