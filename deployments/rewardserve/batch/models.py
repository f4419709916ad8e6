"""From `--model` to the models of a run: names in cluster.yaml, folders, or hub ids."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from rewardserve.batch.cluster_names import ClusterNames, read_cluster_names
from rewardserve.batch.settings import BulkModel
from rewardserve.errors import SettingsError
from rewardserve.families.registry import find
from rewardserve.settings import ModelSettings

HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


def resolve_models(
    option: str, config: Path | None = None, overrides: Mapping[str, Any] = {}
) -> tuple[BulkModel, ...]:
    """The models of `a,b,...`: each an application of `config`, else `[name=]source[@revision]`.

    `overrides` replace settings of every model. A source's name is its last path component.
    Raises SettingsError.
    """
    return models_named(option.split(","), read_cluster_names(config), overrides)


def models_named(
    entries: Sequence[str], names: ClusterNames, overrides: Mapping[str, Any]
) -> tuple[BulkModel, ...]:
    """The same for entries that are apart already."""
    models = [_model(entry.strip(), names, overrides) for entry in entries]
    if len({model.name for model in models}) < len(models):
        raise SettingsError(
            "two models have the same name; write --model name=source,other=source", "model"
        )
    return tuple(models)


def revision_of(model: BulkModel) -> str | None:
    """The revision that is loaded: of a hub id the one that settings or registry name."""
    settings = model.settings
    if Path(settings.source).is_dir():
        return None
    entry = find(settings.source)
    return settings.revision or (entry.revision if entry else None)


def _model(entry: str, names: ClusterNames, overrides: Mapping[str, Any]) -> BulkModel:
    if entry in names.models:
        return BulkModel(name=entry, settings=_settings({**names.models[entry], **overrides}))
    name, equals, rest = entry.partition("=")
    source, _, revision = (rest if equals else entry).partition("@")
    if not source:
        raise SettingsError("--model takes names, folders or hub ids, divided by commas", "model")
    if names.file and not HUB_ID.fullmatch(source) and not Path(source).expanduser().is_dir():
        raise SettingsError(
            f"`{source}` is no name, no folder and no hub id (owner/name); {names.describe()}",
            "model",
        )
    settings = {"source": source} | ({"revision": revision} if revision else {}) | dict(overrides)
    return BulkModel(name=name if equals else Path(source).name, settings=_settings(settings))


def _settings(values: Mapping[str, Any]) -> ModelSettings:
    try:
        return ModelSettings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"model setting {where}: {first['msg']}", where) from error
