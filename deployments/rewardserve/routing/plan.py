"""Turns the settings of all routes into routes that can be evaluated, once, at start.

Knows names: which exist, which belong to a model, a route or an attribute, and which calibrations
there are. What it lets through can be evaluated.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from rewardserve.errors import InvalidRequest, SettingsError, UnknownModel
from rewardserve.route_settings import (
    AttributesSettings,
    CascadeSettings,
    EnsembleSettings,
    RouteSettings,
    SelectRule,
    SelectSettings,
    ShadowSettings,
    SplitSettings,
)
from rewardserve.routing.attributes import AttributeRoute, one_attribute, own_weights
from rewardserve.routing.calibration import Calibration, Distribution
from rewardserve.routing.cascade import Cascade
from rewardserve.routing.ensemble import Ensemble, Member
from rewardserve.routing.evaluate import ModelRoute, Route
from rewardserve.routing.normalizers import make_normalizer
from rewardserve.routing.selection import Rule, Select, Shadow, Split

INLINE = "inline"
"""What a reward of an inline ensemble names as its model."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every name a request may ask for."""

    models: Mapping[str, ModelRoute]
    routes: Mapping[str, Route]
    calibrations: Mapping[str, Calibration]

    def route(self, name: str) -> Route:
        """The model, route or `model.attribute` of that name. Raises UnknownModel."""
        found = self.find(name)
        if found is None:
            known = ", ".join([*self.models, *self.routes])
            raise UnknownModel(f"no such model or route; there are: {known}", "model")
        return found

    def find(self, name: str) -> Route | None:
        """The model, route or `model.attribute` of that name; a whole name wins over an attribute.

        None where there is none.
        """
        if name in self.routes:
            return self.routes[name]
        return self.models.get(name) or self._attribute(name)

    def label(self, name: str) -> str:
        """A stand-in for `name` in metrics and logs, of which there are few.

        Itself where the settings have it; `model.*` for any attribute, since whether there is one
        is only known once the model has answered; `unknown` for all others.
        """
        if name in self.routes or name in self.models:
            return name
        owner = self._owner(name)
        return f"{owner}.*" if owner else "unknown"

    def inline(self, spec: Mapping[str, Any]) -> Route:
        """The ensemble that a request brings along, in the terms of `EnsembleSettings`.

        Raises InvalidRequest for what would be refused in a settings file.
        """
        try:
            settings = EnsembleSettings.model_validate(spec)
            return _ensemble(self, INLINE, settings)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"]))[:100]
            message = f"the inline ensemble is wrong: {place}: {first['msg'][:500]}"
            raise InvalidRequest(message, "ensemble") from None
        except SettingsError as error:
            raise InvalidRequest(error.message[:1000], "ensemble") from error

    def _owner(self, name: str) -> str:
        """The model whose attribute `name` would be; empty where there is none."""
        owners = [model for model in self.models if name.startswith(f"{model}.")]
        return max(owners, key=len, default="")

    def _attribute(self, name: str) -> Route | None:
        owner = self._owner(name)
        attribute = name.removeprefix(f"{owner}.")
        if not owner or not attribute:
            return None
        return AttributeRoute(name, self.models[owner], one_attribute(attribute), attribute)


def resolve(
    routes: Mapping[str, RouteSettings],
    models: Collection[str],
    calibrations: Mapping[str, Calibration] | None = None,
) -> Plan:
    """The plan of a router.

    Raises SettingsError naming the route: for a name that nothing has, a name that two things
    have, a circle of routes, and a calibration that is needed and missing.
    """
    for name in routes:
        if name in models:
            raise SettingsError(f"`{name}` is both a model and a route; rename the route", "routes")
    built: dict[str, Route] = {}
    plan = Plan({name: ModelRoute(name) for name in models}, built, calibrations or {})
    for name in routes:
        _add(name, routes, plan, built)
    return plan


def _add(
    name: str,
    routes: Mapping[str, RouteSettings],
    plan: Plan,
    built: dict[str, Route],
    above: tuple[str, ...] = (),
) -> None:
    """Builds the routes that `name` names, then itself."""
    if name in built:
        return
    if name in above:
        circle = " -> ".join([*above[above.index(name) :], name])
        raise SettingsError(f"routes go in a circle: {circle}", f"routes.{name}")
    for member in routes[name].names:
        if member in routes:
            _add(member, routes, plan, built, (*above, name))
    built[name] = _build(plan, name, routes[name])


def _build(plan: Plan, name: str, settings: RouteSettings) -> Route:
    named = {member: _find(plan, name, member) for member in settings.names}
    route: Route
    match settings.chosen:
        case str(member):
            route = named[member]
        case EnsembleSettings() as ensemble:
            route = _ensemble(plan, name, ensemble)
        case AttributesSettings(model=model, weights=weights):
            route = AttributeRoute(name, _only_model(plan, name, model), own_weights(weights))
        case CascadeSettings(first=first, then=then, top_k=top_k, margin=margin):
            route = Cascade(name, named[first], named[then], top_k, margin)
        case SelectSettings(rules=rules, default=default):
            route = Select(name, tuple(_rule(rule, named) for rule in rules), named[default])
        case SplitSettings(weights=weights):
            route = Split(name, tuple((named[use], weight) for use, weight in weights.items()))
        case ShadowSettings(answer=answer, shadows=shadows):
            route = Shadow(name, named[answer], tuple(named[shadow] for shadow in shadows))
    return route


def _find(plan: Plan, route: str, name: str) -> Route:
    found = plan.find(name)
    if found is None:
        known = ", ".join([*plan.models, *plan.routes])
        raise SettingsError(
            f"route `{route}` names `{name}`, which is no model, route or model.attribute; "
            f"there are: {known}",
            f"routes.{route}",
        )
    return found


def _only_model(plan: Plan, route: str, name: str) -> ModelRoute:
    if name not in plan.models:
        raise SettingsError(
            f"route `{route}` weighs the attributes of `{name}`, which is no model",
            f"routes.{route}",
        )
    return plan.models[name]


def _rule(rule: SelectRule, named: Mapping[str, Route]) -> Rule:
    when = {
        tag: frozenset([values] if isinstance(values, str) else values)
        for tag, values in rule.when.items()
    }
    return Rule(when, named[rule.use])


def _ensemble(plan: Plan, name: str, settings: EnsembleSettings) -> Ensemble:
    members = tuple(
        _member(plan, name, settings, member, weight) for member, weight in settings.members.items()
    )
    return Ensemble(name, members, settings)


def _member(
    plan: Plan, ensemble: str, settings: EnsembleSettings, name: str, weight: float
) -> Member:
    route = _find(plan, ensemble, name)
    if not settings.calibrated:
        return Member(name, weight, route, make_normalizer(settings, name, None))
    try:
        calibration, distribution = _calibration(plan, route)
        normalizer = make_normalizer(settings, name, distribution)
    except SettingsError as error:
        place = f"member `{name}` of route `{ensemble}`"
        raise SettingsError(f"{place}: {error.message}", f"routes.{ensemble}") from error
    return Member(name, weight, route, normalizer, calibration)


def _calibration(plan: Plan, route: Route) -> tuple[Calibration, Distribution]:
    """What is known of a member's scores. Raises SettingsError when nothing is."""
    source = route.source if isinstance(route, AttributeRoute) else route
    attribute = route.attribute if isinstance(route, AttributeRoute) else None
    if not isinstance(source, ModelRoute) or (attribute is None and source is not route):
        raise SettingsError(
            "only models and their attributes have calibrations; set normalize to group_zscore, "
            "group_rank or affine for an ensemble over other routes"
        )
    calibration = plan.calibrations.get(source.name)
    if calibration is None:
        raise SettingsError(
            f"no calibration of `{source.name}` is at hand; run `rewardserve calibrate --models "
            f"{source.name} DATA.parquet -o calibration/` and name that folder in the router's "
            "`calibration`, or set normalize to group_zscore, which compares the responses of one "
            "prompt and needs none"
        )
    if attribute is None:
        return calibration, calibration.score
    if attribute not in calibration.attributes:
        known = ", ".join(calibration.attributes) or "none"
        raise SettingsError(
            f"the calibration of `{source.name}` has no attribute `{attribute}`; it has: {known}"
        )
    return calibration, calibration.attributes[attribute]
