"""docs/routing.md names every kind, normalizer and aggregate, and its settings can be deployed."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from rewardserve.route_settings import PARAMETER_OF, Aggregate, Normalize, RouteSettings
from rewardserve.routing.calibration import calibrate
from rewardserve.routing.plan import resolve
from rewardserve_client._types import Reward

PAGE = (Path(__file__).parents[3] / "docs" / "routing.md").read_text()
MODELS = ["skywork-27b", "armorm", "urm", "grm-2b"]


def test_the_routes_of_the_page_can_be_resolved() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    routes = yaml.safe_load(block)["routes"]
    scores = {m: [Reward(score=s, model=m) for s in (0.0, 1.0)] for m in MODELS}
    known = {m: calibrate(m, [scores[m]], source=m, revision=None, data="x") for m in MODELS}
    settings = {name: RouteSettings.model_validate(route) for name, route in routes.items()}
    assert resolve(settings, MODELS, known).routes.keys() == routes.keys()


@pytest.mark.parametrize(
    "name",
    [
        *RouteSettings.model_fields,
        *get_args(Normalize),
        *get_args(Aggregate),
        *PARAMETER_OF,
    ],
)
def test_the_page_speaks_of(name: str) -> None:
    assert f"`{name}" in PAGE
