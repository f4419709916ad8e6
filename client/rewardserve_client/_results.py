"""What scoring calls give back besides single rewards: a list of them, and a ranking.

Both print well in a notebook and turn into dicts and, where pandas is installed, data frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rewardserve_client._types import Reward

if TYPE_CHECKING:
    import pandas as pd

_BAR_WIDTH: Final = 20
_TEXT_WIDTH: Final = 60


class Rewards(list[Reward]):
    """Rewards in the order of what was scored; a list with a few conveniences."""

    @property
    def scores(self) -> list[float]:
        """The final scores alone."""
        return [reward.score for reward in self]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One plain dict per reward, without what is not set."""
        return [reward.to_dict() for reward in self]

    def to_pandas(self) -> "pd.DataFrame":
        """One row per reward; attributes and the like become columns such as `attributes.safety`.

        Raises `ImportError` where pandas is not installed.
        """
        import pandas as pd  # noqa: PLC0415 - optional

        return pd.json_normalize(self.to_dicts())


def regrouped(
    rewards: Iterable[Reward], groups: Sequence[tuple[object, Sequence[str]]]
) -> list[Rewards]:
    """`rewards` cut into one list per group of responses, in their order."""
    remaining = iter(rewards)
    return [Rewards(islice(remaining, len(responses))) for _, responses in groups]


@dataclass(frozen=True)
class Ranking:
    """Responses to one prompt and what they are worth.

    Printed, it is a table with the best on top and a bar from the lowest score to the highest.
    """

    responses: tuple[str, ...]
    """As given."""
    rewards: Rewards
    """One per response, in the same order."""

    @cached_property
    def order(self) -> list[int]:
        """Indices of the responses, best first; of equal ones the earlier first."""
        return sorted(range(len(self.rewards)), key=lambda index: -self.rewards[index].score)

    @property
    def best(self) -> str:
        """The response with the highest score."""
        return self.responses[self.order[0]]

    @property
    def best_reward(self) -> Reward:
        """The reward of `best`."""
        return self.rewards[self.order[0]]

    def to_dict(self) -> dict[str, Any]:
        """The ranking as plain lists and dicts, responses in the order given."""
        return {
            "responses": list(self.responses),
            "rewards": self.rewards.to_dicts(),
            "order": self.order,
        }

    def to_pandas(self) -> "pd.DataFrame":
        """One row per response, best first, with `rank` and `response` as the first columns."""
        frame = self.rewards.to_pandas().iloc[self.order]
        frame.insert(0, "rank", range(1, len(frame) + 1))
        frame.insert(1, "response", [self.responses[index] for index in self.order])
        return frame

    def __str__(self) -> str:
        scores = self.rewards.scores
        lines = ["rank     score                        response"]
        for rank, index in enumerate(self.order, 1):
            bar = _bar(scores[index], scores)
            text = _one_line(self.responses[index])
            lines.append(f"{rank:>4} {scores[index]:>9.4g}  {bar:<{_BAR_WIDTH}}  {text}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(self._html_row(rank, index) for rank, index in enumerate(self.order, 1))
        head = "<tr><th>rank</th><th>score</th><th></th><th>response</th></tr>"
        return f"<table>{head}{rows}</table>"

    def _html_row(self, rank: int, index: int) -> str:
        from html import escape  # noqa: PLC0415 - notebooks alone need it

        scores = self.rewards.scores
        bar = f"<progress value='{_share(scores[index], scores):.3f}'></progress>"
        text = escape(_one_line(self.responses[index]))
        return f"<tr><td>{rank}</td><td>{scores[index]:.4g}</td><td>{bar}</td><td>{text}</td></tr>"


def _share(score: float, scores: Sequence[float]) -> float:
    """Where `score` lies between the lowest (0) and the highest (1)."""
    low, high = min(scores), max(scores)
    return 1.0 if high == low else (score - low) / (high - low)


def _bar(score: float, scores: Sequence[float]) -> str:
    return "█" * max(1, round(_share(score, scores) * _BAR_WIDTH))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_WIDTH else line[: _TEXT_WIDTH - 1] + "…"
