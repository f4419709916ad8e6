"""A route's outcomes for one row, from what the row's models said of it offline.

Routes are evaluated by the code that serves them; only their models are not asked again. Knows
rows in memory. Knows nothing of files, columns or Ray.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardserve.batch.reward_columns import Outcome
from rewardserve.errors import InvalidRequest, RewardServeError
from rewardserve.routing.evaluate import Item, Request, Route
from rewardserve_client import Conversation, Reward

Said = dict[str, list[Outcome]]
"""Model -> its reward, or the reason for none, for each response of one row."""

Charge = Callable[[str, Sequence[Conversation], Sequence[Reward]], None]
"""Told of each call of a model: its name, what it was asked about, and what it said."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One row: the responses of a prompt, and every model's rewards for them, in order."""

    conversations: list[Conversation | InvalidRequest]
    said: Said


def _free(_: str, __: Sequence[Conversation], ___: Sequence[Reward]) -> None:
    """Calls cost nothing where nobody counts."""


def subset_tags(subset: Any) -> dict[str, str]:
    """The tags that `select` routes see of a row: its subset, if it has one."""
    return {} if subset is None else {"subset": str(subset)}


async def route_outcomes(
    route: Route, row: ScoredRow, tags: Mapping[str, str], charge: Charge = _free
) -> list[Outcome]:
    """The route's outcome for each response of a row; the row is one group.

    As in serving, a response that cannot be scored leaves its whole group without rewards, unless
    a quorum does without the member that refused it. Raises what is no fault of the row: an
    attribute no model has, a calibration out of date, numbers too large to be combined.
    """
    wrong = [item for item in row.conversations if isinstance(item, InvalidRequest)]
    if wrong:
        return [wrong[0]] * len(row.conversations)
    request = Request(_Offline(row, charge).ask, tags)
    (outcome,) = await route.outcomes([row.conversations], request)  # type: ignore[list-item]
    if isinstance(outcome, InvalidRequest):
        return [outcome] * len(row.conversations)
    if isinstance(outcome, RewardServeError):
        raise outcome
    return list(outcome)


class _Offline:
    """Answers for the models from what they said of one row."""

    def __init__(self, row: ScoredRow, charge: Charge) -> None:
        self._said = row.said
        self._places = {id(item): place for place, item in enumerate(row.conversations)}
        self._charge = charge

    async def ask(self, model: str, items: Sequence[Item]) -> list[Reward]:
        """Raises the InvalidRequest of the first item that the model could not score."""
        rewards: list[Reward] = []
        for item in items:
            outcome = self._said[model][self._places[id(item)]]
            if isinstance(outcome, InvalidRequest):
                raise outcome
            rewards.append(outcome)
        conversations: Sequence[Conversation] = items  # type: ignore[assignment]
        self._charge(model, conversations, rewards)
        return rewards
