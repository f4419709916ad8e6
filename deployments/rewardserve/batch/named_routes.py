"""From `--model` to all that a run needs: models, routes, and the models behind the routes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewardserve.batch.cluster_names import RouterPart, read_cluster_names
from rewardserve.batch.models import models_named, revision_of
from rewardserve.batch.settings import BulkModel, BulkRoutes
from rewardserve.errors import SettingsError
from rewardserve.routing.calibration import load_calibrations
from rewardserve.routing.evaluate import Route
from rewardserve.routing.members import calibrations_of, models_of


def resolve_names(
    option: str, config: Path | None = None, overrides: Mapping[str, Any] = {}
) -> tuple[tuple[BulkModel, ...], BulkRoutes]:
    """The models and routes of `a,b,...`: routes of `config`, else as `resolve_models`.

    Models that are asked by a route alone come after the named ones. Raises SettingsError, also
    for whatever keeps the router itself from starting.
    """
    names = read_cluster_names(config)
    entries = [entry.strip() for entry in option.split(",")]
    wanted = [entry for entry in entries if entry in names.router.routes]
    models = models_named([each for each in entries if each not in wanted], names, overrides)
    if not wanted:
        return models, BulkRoutes()
    if len({*wanted, *(model.name for model in models)}) < len(entries):
        raise SettingsError("two of --model's models and routes have the same name", "model")
    routes = _routes(wanted, names.router)
    plan = routes.plan()
    asked = [plan.route(name) for name in wanted]
    members = models_named(_models_behind(asked), names, overrides)
    _check_calibrations(asked, members)
    return _joined(models, members), _travelling(routes)


def _routes(wanted: Sequence[str], router: RouterPart) -> BulkRoutes:
    folder, models = router.calibration, router.models
    return BulkRoutes(
        names=tuple(wanted),
        models=models,
        routes=router.routes,
        calibrations=load_calibrations(folder, models) if folder else {},
    )


def _travelling(routes: BulkRoutes) -> BulkRoutes:
    """The same without calibrations of attributes that no route reads.

    ArmoRM's 19 alone take 80 kB, and Ray holds arguments over 100 kB where a lost node loses them.
    """
    read = {name for route in routes.routes.values() for name in route.names}
    calibrations = {
        model: calibration.model_copy(
            update={
                "attributes": {
                    name: found
                    for name, found in calibration.attributes.items()
                    if f"{model}.{name}" in read
                }
            }
        )
        for model, calibration in routes.calibrations.items()
    }
    return routes.model_copy(update={"calibrations": calibrations})


def _models_behind(routes: Sequence[Route]) -> list[str]:
    return list(dict.fromkeys(model for route in routes for model in models_of(route)))


def _check_calibrations(routes: Sequence[Route], members: Sequence[BulkModel]) -> None:
    """Before anything is scored: a calibration belongs to one revision."""
    revisions = {model.name: revision_of(model) for model in members}
    for route in routes:
        for model, calibration in calibrations_of(route).items():
            calibration.check_revision(revisions[model])


def _joined(models: Sequence[BulkModel], members: Sequence[BulkModel]) -> tuple[BulkModel, ...]:
    joined = {model.name: model for model in models}
    for member in members:
        if joined.setdefault(member.name, member) != member:
            raise SettingsError(
                f"`{member.name}` is asked by a route, and --model names another model so; write "
                "another name before its `=`",
                "model",
            )
    return tuple(joined.values())
