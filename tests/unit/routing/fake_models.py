"""Models made of plain functions, and the plans over them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewardserve.errors import ModelFailed, RewardServeError
from rewardserve.route_settings import RouteSettings
from rewardserve.routing.calibration import Calibration
from rewardserve.routing.evaluate import Item
from rewardserve.routing.plan import Plan, resolve
from rewardserve_client._types import Conversation, Reward, join_turns

Score = Callable[[str], float]


def candidates(*responses: str, prompt: str = "a question") -> list[Conversation]:
    """One group: the responses of one prompt."""
    return [join_turns(prompt, response) for response in responses]


def response_of(item: Item) -> str:
    """The last turn's text."""
    last: Any = item[-1]
    return str(last["content"])


class FakeModels:
    """Scores responses by a function of their text, and keeps what it was asked."""

    def __init__(self, scores: Mapping[str, Score | RewardServeError], **reward: Any) -> None:
        self.scores = scores
        self.reward = reward
        self.asked: list[tuple[str, list[str]]] = []

    async def __call__(self, model: str, items: Sequence[Item]) -> list[Reward]:
        texts = [response_of(item) for item in items]
        self.asked.append((model, texts))
        score = self.scores[model]
        if isinstance(score, RewardServeError):
            raise score
        return [Reward(score=score(text), model=model, **self.reward) for text in texts]


def tabled(**values: float) -> Score:
    """A model that knows each response's score by heart."""
    return values.__getitem__


def down() -> ModelFailed:
    """What a model that is not there raises."""
    return ModelFailed("the replica died")


def plan_of(
    routes: Mapping[str, Any],
    models: Sequence[str] = ("a", "b", "c"),
    calibrations: Mapping[str, Calibration] | None = None,
) -> Plan:
    """A plan from routes as cluster.yaml writes them."""
    parsed = {name: RouteSettings.model_validate(route) for name, route in routes.items()}
    return resolve(parsed, models, calibrations)


def ensemble(*members: str, **settings: Any) -> dict[str, Any]:
    """An ensemble of equal members, raw unless said otherwise."""
    weights = dict.fromkeys(members, 1.0)
    return {"ensemble": {"members": weights, "normalize": "none"} | settings}
