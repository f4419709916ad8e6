"""Scoring one unit: its rows in, its reward columns out; and the unit's whole life in a worker.

Reading and tokenising the next rows goes on in a second thread while the model is busy. Knows a
scorer by its two methods alone, and nothing of Ray.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import pyarrow as pa

from rewardserve.batch.columns import Layout
from rewardserve.batch.conversations import Item, row_items
from rewardserve.batch.fault_points import reach
from rewardserve.batch.inputs.files import Format
from rewardserve.batch.inputs.formats import Reader, open_reader
from rewardserve.batch.plan import MAX_VALUE_BYTES
from rewardserve.batch.reward_columns import Outcome, reward_columns
from rewardserve.batch.units import Unit
from rewardserve.errors import InvalidConversation, InvalidRequest
from rewardserve_client import Conversation

if TYPE_CHECKING:  # these bring torch, which only workers need
    from rewardserve.engine.scorer import ScoredBatch
    from rewardserve.families.base import Encoded

CHUNK_TOKENS: Final = 2**20
"""Tokens that are handed to the model at once, and so share what prefixes they have: a usual unit,
and a bound for large ones."""

T = TypeVar("T")


class UnitScorer(Protocol):
    """The part of `engine.scorer.Scorer` that bulk scoring needs."""

    def encode(self, item: Conversation, *, truncate: bool = False) -> "Encoded":
        """Raises InvalidRequest for what cannot be scored."""
        ...

    def score_encoded(self, batch: Sequence["Encoded"]) -> "ScoredBatch":
        """Raises ModelFailed."""
        ...


class InTurn:
    """A scorer that several threads may use: they encode at once, and score one after another."""

    def __init__(self, scorer: UnitScorer) -> None:
        self.encode = scorer.encode
        self._scorer = scorer
        self._turn = Lock()

    def score_encoded(self, batch: Sequence["Encoded"]) -> "ScoredBatch":
        """As the scorer's own."""
        with self._turn:
            return self._scorer.score_encoded(batch)


@dataclass(frozen=True, slots=True)
class CorpusReading:
    """What a worker must know of the corpus to read a unit of it."""

    format: Format
    schema: pa.Schema
    layout: Layout
    truncate: bool

    def open(self) -> Reader:
        """A reader for one thread."""
        return open_reader(self.format, self.schema)


@dataclass(frozen=True, slots=True)
class ScoredUnit:
    """One model's columns for one unit."""

    columns: pa.Table
    tokens: int
    computed_tokens: int


@dataclass(frozen=True, slots=True)
class InputRow:
    """What an input row asks for."""

    items: list[Item]
    subset: Any = None


Row = list["Encoded | InvalidRequest"]
"""One entry per conversation of an input row: encoded, or why it cannot be."""


def score_unit(
    unit: Unit, corpus: CorpusReading, reader: Reader, scorer: UnitScorer, suffix: str
) -> ScoredUnit:
    """Score every row of the unit.

    Raises DataError where the file cannot be read, and whatever the model raises.
    """
    outcomes: list[list[Outcome]] = []
    tokens = computed_tokens = 0
    for chunk in _ahead(_chunks(_prepared_rows(unit, corpus, reader, scorer))):
        encoded = [entry for row in chunk for entry in row if not isinstance(entry, InvalidRequest)]
        reach("unit.read")
        batch = scorer.score_encoded(encoded)
        rewards = iter(batch.rewards)
        outcomes += [
            [entry if isinstance(entry, InvalidRequest) else next(rewards) for entry in row]
            for row in chunk
        ]
        tokens += sum(reward.tokens for reward in batch.rewards)
        computed_tokens += batch.computed_tokens
    reach("unit.scored")
    return ScoredUnit(
        reward_columns(corpus.layout.shape, outcomes, suffix), tokens, computed_tokens
    )


def copy_rows(unit: Unit, corpus: CorpusReading, reader: Reader) -> Iterator[pa.RecordBatch]:
    """The unit's input rows as they are to stand in its part."""
    for rows in reader.read(unit.path, unit):
        yield from rows.decoded(corpus.schema)


def input_rows(unit: Unit, corpus: CorpusReading, reader: Reader) -> Iterator[InputRow]:
    """The unit's rows in order, one in hand at a time."""
    roles = corpus.layout.roles
    for rows in reader.read(unit.path, unit):
        for values in rows.values(list(roles.values()), MAX_VALUE_BYTES):
            if isinstance(values, str):
                yield InputRow([InvalidConversation(values)] * _entries(corpus.layout))
                continue
            subset = values[roles["subset"]] if "subset" in roles else None
            yield InputRow(row_items(corpus.layout, values), subset)


def _prepared_rows(
    unit: Unit, corpus: CorpusReading, reader: Reader, scorer: UnitScorer
) -> Iterator[Row]:
    for row in input_rows(unit, corpus, reader):
        yield [_encode(scorer, item, truncate=corpus.truncate) for item in row.items]


def _entries(layout: Layout) -> int:
    return 2 if layout.shape == "pairs" else 1


def _encode(
    scorer: UnitScorer, item: Conversation | InvalidRequest, *, truncate: bool
) -> "Encoded | InvalidRequest":
    if isinstance(item, InvalidRequest):
        return item
    try:
        return scorer.encode(item, truncate=truncate)
    except InvalidRequest as error:
        return error


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Whole rows, so that responses to one prompt share its computation."""
    chunk: list[Row] = []
    tokens = 0
    for row in rows:
        chunk.append(row)
        tokens += sum(len(e.token_ids) for e in row if not isinstance(e, InvalidRequest))
        if tokens >= CHUNK_TOKENS:
            yield chunk
            chunk, tokens = [], 0
    if chunk:
        yield chunk


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next one being made while the last one is in use."""
    done = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        upcoming = thread.submit(next, items, done)
        while (item := upcoming.result()) is not done:
            upcoming = thread.submit(next, items, done)
            yield item  # type: ignore[misc]
