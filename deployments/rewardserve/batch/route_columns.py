"""The reward columns of a run's routes for one unit, from the columns that its models gave.

The unit's rows are read once more, a few at a time: routes see prompts and subsets, and nothing of
the texts travels between the models' stages. Knows nothing of Ray.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Final

import pyarrow as pa

from rewardserve.batch.columns import Shape
from rewardserve.batch.inputs.formats import Reader
from rewardserve.batch.models import revision_of
from rewardserve.batch.reward_columns import (
    Outcome,
    beside,
    read_outcomes,
    reward_columns,
    suffixes,
)
from rewardserve.batch.route_outcomes import ScoredRow, route_outcomes, subset_tags
from rewardserve.batch.settings import BulkSettings
from rewardserve.batch.unit_scoring import CorpusReading, InputRow, input_rows
from rewardserve.batch.units import Unit
from rewardserve.errors import ModelFailed, NonFiniteScore, SettingsError
from rewardserve.routing.evaluate import Route

ROWS: Final = 256
"""Rows whose rewards are in hand at once."""


@dataclass(frozen=True, slots=True)
class RouteScorer:
    """The routes that a run names, ready to be evaluated."""

    corpus: CorpusReading
    routes: Mapping[str, Route]
    revisions: Mapping[str, str | None]
    """Of each of the run's models."""
    suffixes: Mapping[str, str]
    """Model or route -> what its columns end with."""

    def columns(self, unit: Unit, reader: Reader, rewards: pa.Table) -> pa.Table:
        """The routes' columns for the unit, of which `rewards` has the models'.

        Raises SettingsError for what no other row would change (an attribute that a model has not,
        a calibration of another revision), and NonFiniteScore.
        """
        rows = input_rows(unit, self.corpus, reader)
        starts = range(0, len(rewards), ROWS)
        return pa.concat_tables(self._some(rows, rewards.slice(start, ROWS)) for start in starts)

    def _some(self, rows: Iterator[InputRow], rewards: pa.Table) -> pa.Table:
        """The same for the next rows and their rewards."""
        try:
            outcomes = asyncio.run(self._outcomes(self._scored_rows(rows, rewards)))
        except NonFiniteScore:
            raise
        except ModelFailed as error:
            raise SettingsError(error.message, "routes") from error
        tables = [
            reward_columns(self._shape, each, self.suffixes[name])
            for name, each in outcomes.items()
        ]
        return reduce(beside, tables)

    def _scored_rows(
        self, rows: Iterator[InputRow], rewards: pa.Table
    ) -> Iterator[tuple[ScoredRow, dict[str, str]]]:
        said = {
            model: read_outcomes(rewards, self._shape, self.suffixes[model], model, revision)
            for model, revision in self.revisions.items()
        }
        for _ in range(len(rewards)):
            row = next(rows)
            each = {model: next(outcomes) for model, outcomes in said.items()}
            yield ScoredRow(row.items, each), subset_tags(row.subset)

    async def _outcomes(
        self, rows: Iterator[tuple[ScoredRow, dict[str, str]]]
    ) -> dict[str, list[list[Outcome]]]:
        found: dict[str, list[list[Outcome]]] = {name: [] for name in self.routes}
        for row, tags in rows:
            for name, route in self.routes.items():
                found[name].append(await route_outcomes(route, row, tags))
        return found

    @property
    def _shape(self) -> Shape:
        return self.corpus.layout.shape


def open_routes(settings: BulkSettings, corpus: CorpusReading) -> RouteScorer:
    """The routes of a run; raises SettingsError."""
    plan = settings.routes.plan()
    return RouteScorer(
        corpus,
        {name: plan.route(name) for name in settings.routes.names},
        {model.name: revision_of(model) for model in settings.models},
        suffixes(settings.names),
    )
