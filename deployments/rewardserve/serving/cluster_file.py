"""cluster.yaml, read strictly: every key of the file is one that somebody knows.

Ray Serve ignores keys it does not know, so that `max_ongoing_request` deploys and does nothing.
Here each is an error that names the key, before anything is started or changed. Knows the file's
schema (Ray's own, and this project's arguments). Starts nothing.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

from rewardserve.errors import SettingsError
from rewardserve.serving.router import plan_of
from rewardserve.serving.router_settings import RouterSettings
from rewardserve.settings import ModelSettings

MODEL_BUILDER = "rewardserve.app:model"
ROUTER_BUILDER = "rewardserve.app:router"

ARGUMENTS: dict[str, tuple[type[BaseModel], str]] = {
    MODEL_BUILDER: (ModelSettings, "RewardModel"),
    ROUTER_BUILDER: (RouterSettings, "Gateway"),
}
"""Builder -> the schema of its arguments, and the name of its one deployment."""

Schema = TypeVar("Schema", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """A checked cluster file."""

    config: ServeDeploySchema
    models: dict[str, ModelSettings]
    """By application name."""
    routers: dict[str, RouterSettings]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that HTTP listens on."""
        return self.config.http_options.host, self.config.http_options.port


def read_cluster_file(path: Path) -> ClusterFile:
    """The file at `path`. Raises SettingsError that names the file and the key."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    try:
        return check_cluster(content)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error.message}", error.param) from None


def check_cluster(content: Any) -> ClusterFile:
    """The same for what a file holds. Raises SettingsError that names the key."""
    config = _checked(_on_loopback(content), ServeDeploySchema, "")
    models: dict[str, ModelSettings] = {}
    routers: dict[str, RouterSettings] = {}
    for index, application in enumerate(config.applications):
        if application.import_path not in ARGUMENTS:
            continue
        schema, deployment = ARGUMENTS[application.import_path]
        place = f"applications[{index}]"
        arguments = _checked(application.args, schema, f"{place}.args")
        _check_deployment_names(application.deployments, deployment, place)
        if isinstance(arguments, ModelSettings):
            models[application.name] = arguments
        elif isinstance(arguments, RouterSettings):
            routers[application.name] = arguments
            _check_router(arguments, config, f"{place}.args")
    return ClusterFile(config, models, routers)


def _on_loopback(content: Any) -> Any:
    """Serve's default for files is every interface; here the file has to say so."""
    if not isinstance(content, Mapping):
        raise SettingsError("a cluster file is a mapping with the key `applications`")
    http_options = content.get("http_options") or {}
    if not isinstance(http_options, Mapping):
        return content
    return {**content, "http_options": {"host": "127.0.0.1", **http_options}}


def _checked(content: Any, schema: type[Schema], place: str) -> Schema:
    for key, known in unknown_keys(content, schema, place):
        close = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(sorted(known))}"
        raise SettingsError(f"`{key}` is no key of a cluster file; {hint}", param=key)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]]
        key = "".join([place, *steps]).removeprefix(".")
        raise SettingsError(f"`{key}`: {first['msg']}", param=key) from None


def unknown_keys(
    content: Any, schema: type[BaseModel], place: str
) -> Iterator[tuple[str, set[str]]]:
    """Every key of `content`, however deep, that `schema` does not have; with those it has."""
    if not isinstance(content, Mapping):
        return
    fields = schema.model_fields
    known = {field.alias or name for name, field in fields.items()}
    for key, value in content.items():
        path = f"{place}.{key}" if place else str(key)
        if key not in known:
            yield path, known
            continue
        field = next(field for name, field in fields.items() if key in (name, field.alias))
        for part, entry, place_of_entry in _parts(field.annotation, value, path):
            yield from unknown_keys(entry, part, place_of_entry)


def _parts(annotation: Any, value: Any, place: str) -> Iterator[tuple[type[BaseModel], Any, str]]:
    """The schemas in an annotation such as `dict[str, Model] | None`, with what they describe."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, value, place
        return
    parameters = get_args(annotation)
    if get_origin(annotation) is dict and parameters:
        entries = value.items() if isinstance(value, Mapping) else ()
        for key, entry in entries:
            yield from _parts(parameters[1], entry, f"{place}.{key}")
    elif get_origin(annotation) is list and parameters:
        for index, entry in enumerate(value if isinstance(value, list) else ()):
            yield from _parts(parameters[0], entry, f"{place}[{index}]")
    else:
        for parameter in parameters:
            yield from _parts(parameter, value, place)


def _check_deployment_names(overrides: Any, deployment: str, place: str) -> None:
    for index, override in enumerate(overrides):
        if override.name != deployment:
            key = f"{place}.deployments[{index}].name"
            raise SettingsError(f"`{key}`: the only deployment here is {deployment}", param=key)


def _check_router(router: RouterSettings, config: ServeDeploySchema, place: str) -> None:
    names = {application.name for application in config.applications}
    for index, model in enumerate(router.models):
        if model not in names:
            key = f"{place}.models[{index}]"
            raise SettingsError(f"`{key}`: no application of this file is named {model}", param=key)
    try:
        plan_of(router)
    except SettingsError as error:
        key = f"{place}.{error.param or 'routes'}"
        raise SettingsError(f"`{key}`: {error.message}", param=key) from None
