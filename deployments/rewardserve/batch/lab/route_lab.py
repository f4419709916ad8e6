"""Every model and route of a plan tried on a scored corpus, so that people choose by evidence.

Routes are evaluated by the code that serves them, over rewards that the models gave offline.
Nothing is scored here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rewardserve.batch.columns import Shape
from rewardserve.batch.lab.agreement import Agreement
from rewardserve.batch.lab.cost import Cost
from rewardserve.batch.lab.scored_rows import ScoredBatch
from rewardserve.batch.reward_columns import Outcome, beside, reward_columns
from rewardserve.batch.route_outcomes import ScoredRow, route_outcomes, subset_tags
from rewardserve.batch.tally import ModelTally
from rewardserve.errors import InvalidRequest
from rewardserve.routing.cascade import Cascade
from rewardserve.routing.evaluate import Route
from rewardserve.routing.plan import Plan
from rewardserve_client import Reward


class Trial:
    """What one model or route has shown so far."""

    def __init__(self, route: Route, shape: Shape) -> None:
        self.route = route
        self.cost = Cost()
        self._tally = ModelTally(shape)
        self._spreads: list[float] = [0.0, 0.0]

    async def outcomes(self, row: ScoredRow, tags: Mapping[str, str]) -> list[Outcome]:
        """The route's outcome for each response of a row, paid for. Raises as `route_outcomes`."""
        return await route_outcomes(self.route, row, tags, self.cost.add)

    def add(
        self, batch: ScoredBatch, rows: Sequence[Sequence[Outcome]], roles: Mapping[str, str]
    ) -> None:
        """Count a batch's outcomes."""
        columns = reward_columns(self._tally.shape, rows)
        self._tally.add(beside(batch.table, columns), roles)
        for outcome in (each for row in rows for each in row):
            if isinstance(outcome, Reward) and outcome.members and outcome.uncertainty:
                self._spreads[0] += outcome.uncertainty["spread"]
                self._spreads[1] += 1

    def report(self, computed_tokens: int) -> dict[str, Any]:
        """Accuracy by subset, errors, mean spread over members and cost."""
        total, count = self._spreads
        shown = self._tally.as_dict()
        return {key: shown[key] for key in ("accuracy", "errors", "scores")} | {
            "mean_spread": total / count if count else None,
            "tokens": self.cost.tokens,
            "computed_tokens": computed_tokens,
        }


class RouteLab:
    """Takes in a scored corpus batch by batch, and reports on every model and route."""

    def __init__(self, plan: Plan, shape: Shape, roles: Mapping[str, str]) -> None:
        self._plan = plan
        self._roles = roles
        self._trials = {
            name: Trial(plan.route(name), shape) for name in [*plan.models, *plan.routes]
        }
        self._agreement = Agreement(list(self._trials))

    async def add(self, batch: ScoredBatch) -> None:
        """Try every name on the batch; `select` routes see the row's subset as a tag."""
        tags = self._tags(batch)
        answers: dict[str, list[list[Outcome]]] = {name: [] for name in self._trials}
        for row, row_tags in zip(batch.rows, tags, strict=True):
            for name, trial in self._trials.items():
                answers[name].append(await trial.outcomes(row, row_tags))
            self._agreement.add(_scores({name: rows[-1] for name, rows in answers.items()}))
        for name, trial in self._trials.items():
            trial.add(batch, answers[name], self._roles)

    def report(self, measured: Mapping[str, int]) -> dict[str, Any]:
        """All findings; `measured` has each model's computed tokens on the whole corpus."""
        estimated = {model: self._trials[model].cost.estimated[model] for model in measured}
        rates = {model: tokens / (estimated[model] or 1.0) for model, tokens in measured.items()}
        return {
            "names": {
                name: trial.report(trial.cost.computed_tokens(rates))
                for name, trial in self._trials.items()
            },
            "kendall_tau": self._agreement.kendall_tau(),
            "same_best": self._agreement.same_best(),
            "cascades": {
                name: route.then.name
                for name, route in self._plan.routes.items()
                if isinstance(route, Cascade)
            },
        }

    def _tags(self, batch: ScoredBatch) -> list[dict[str, str]]:
        if "subset" not in self._roles:
            return [{} for _ in batch.rows]
        return [subset_tags(each) for each in batch.table[self._roles["subset"]].to_pylist()]


def _scores(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, list[float]]:
    """Scores of the names that scored every response."""
    return {
        name: [outcome.score for outcome in each if isinstance(outcome, Reward)]
        for name, each in outcomes.items()
        if not any(isinstance(outcome, InvalidRequest) for outcome in each)
    }
