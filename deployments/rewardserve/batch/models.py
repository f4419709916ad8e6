"""From `--model` to the models of a run: names in cluster.yaml, folders, or hub ids."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rewardserve.batch.settings import BulkModel
from rewardserve.errors import SettingsError
from rewardserve.settings import ModelSettings

MODEL_BUILDER = "rewardserve.app:model"


def resolve_models(
    option: str, config: Path | None = None, overrides: Mapping[str, Any] = {}
) -> tuple[BulkModel, ...]:
    """The models of `a,b,...`: each an application of `config`, else `[name=]source[@revision]`.

    `overrides` replace settings of every model. A source's name is its last path component.
    Raises SettingsError.
    """
    served = dict(_served_models(config)) if config else {}
    models = [_model(entry.strip(), served, overrides) for entry in option.split(",")]
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise SettingsError(
            "two models have the same name; write --model name=source,other=source", "model"
        )
    return tuple(models)


def _model(entry: str, served: Mapping[str, Any], overrides: Mapping[str, Any]) -> BulkModel:
    if entry in served:
        return BulkModel(name=entry, settings=_settings(served[entry] | overrides))
    name, equals, rest = entry.partition("=")
    source, _, revision = (rest if equals else entry).partition("@")
    if not source:
        raise SettingsError("--model takes names, folders or hub ids, divided by commas", "model")
    settings = {"source": source} | ({"revision": revision} if revision else {}) | dict(overrides)
    return BulkModel(name=name if equals else Path(source).name, settings=_settings(settings))


def _settings(values: Mapping[str, Any]) -> ModelSettings:
    try:
        return ModelSettings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"model setting {where}: {first['msg']}", where) from error


def _served_models(config: Path) -> Iterator[tuple[str, Any]]:
    try:
        document = yaml.safe_load(config.read_text())
        applications = document["applications"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SettingsError(f"{config} is not a readable cluster.yaml", "config") from error
    for application in applications:
        if application.get("import_path") == MODEL_BUILDER:
            yield application["name"], application.get("args", {})
