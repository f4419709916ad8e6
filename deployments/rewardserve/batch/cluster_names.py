"""What a cluster.yaml gives names to: models, and the routes of its router.

Reads only what bulk scoring needs. `serving.cluster_file` checks the whole file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rewardserve.errors import SettingsError
from rewardserve.route_settings import RouteSettings

MODEL_BUILDER: Final = "rewardserve.app:model"
ROUTER_BUILDER: Final = "rewardserve.app:router"


class RouterPart(BaseModel):
    """The part of a router's arguments that decides scores."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    models: tuple[str, ...] = ()
    routes: dict[str, RouteSettings] = Field(default_factory=dict)
    calibration: Path | None = None


@dataclass(frozen=True, slots=True)
class ClusterNames:
    """The names of one file, or none."""

    file: Path | None = None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Application name -> its arguments."""
    router: RouterPart = field(default_factory=RouterPart)

    def describe(self) -> str:
        """The names there are, for an error."""
        models, routes = (", ".join(each) or "none" for each in (self.models, self.router.routes))
        return f"{self.file} has the models: {models}; and the routes: {routes}"


def read_cluster_names(file: Path | None) -> ClusterNames:
    """The names in `file`; none without a file. Raises SettingsError."""
    if file is None:
        return ClusterNames()
    try:
        applications = yaml.safe_load(file.read_text())["applications"]
        found = [(each["name"], each.get("import_path"), each.get("args")) for each in applications]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{file} is not a readable cluster.yaml", "config") from error
    models = {name: args or {} for name, builder, args in found if builder == MODEL_BUILDER}
    routers = [args or {} for _, builder, args in found if builder == ROUTER_BUILDER]
    if len(routers) > 1:
        raise SettingsError(f"{file} has several routers; keep one, so that routes are clear")
    return ClusterNames(file, models, _router(routers[0], file) if routers else RouterPart())


def _router(args: Any, file: Path) -> RouterPart:
    try:
        return RouterPart.model_validate(args)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{file}: router setting {where}: {first['msg']}", where) from error
