"""What stands behind a route: the models that it asks, and the calibrations that it reads.

Shadows are left out: they answer nothing, and nobody asks them where nobody records them.
"""

from collections.abc import Iterator

from rewardserve.routing.attributes import AttributeRoute
from rewardserve.routing.calibration import Calibration
from rewardserve.routing.cascade import Cascade
from rewardserve.routing.ensemble import Ensemble
from rewardserve.routing.evaluate import ModelRoute, Route
from rewardserve.routing.selection import Select, Shadow, Split


def models_of(route: Route) -> list[str]:
    """The models that may be asked, each once, in the order in which the route names them."""
    return list(dict.fromkeys(part.name for part in _parts(route) if isinstance(part, ModelRoute)))


def calibrations_of(route: Route) -> dict[str, Calibration]:
    """Model -> the calibration that one of the route's ensembles reads."""
    ensembles = [part for part in _parts(route) if isinstance(part, Ensemble)]
    found = [member.calibration for ensemble in ensembles for member in ensemble.members]
    return {calibration.model: calibration for calibration in found if calibration}


def _parts(route: Route) -> Iterator[Route]:
    """The route and everything below it."""
    yield route
    for member in _members(route):
        yield from _parts(member)


def _members(route: Route) -> list[Route]:
    below: list[Route] = []
    match route:
        case AttributeRoute(source=source):
            below = [source]
        case Ensemble(members=members):
            below = [member.route for member in members]
        case Cascade(first=first, then=then):
            below = [first, then]
        case Select(rules=rules, default=default):
            below = [*(rule.route for rule in rules), default]
        case Split(branches=branches):
            below = [branch for branch, _ in branches]
        case Shadow(answer=answer):
            below = [answer]
    return below
