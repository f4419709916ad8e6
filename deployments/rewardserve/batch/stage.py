"""The Ray Data stage of one model: an actor that holds the model and scores one unit at a time.

With several models the units pass through one stage after another; each adds its columns, and the
last one adds the routes' and writes the part. What travels between stages are the reward columns,
never the texts.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from rewardserve.batch.crashes import guarded
from rewardserve.batch.desks import Desks
from rewardserve.batch.inputs.formats import Reader
from rewardserve.batch.parts import write_part
from rewardserve.batch.reward_columns import beside
from rewardserve.batch.route_columns import open_routes
from rewardserve.batch.settings import BulkModel, BulkSettings
from rewardserve.batch.storage import Folder
from rewardserve.batch.unit_scoring import CorpusReading, InTurn, UnitScorer, copy_rows, score_unit
from rewardserve.batch.units import Unit
from rewardserve.errors import OutputFailed, RewardServeError, SettingsError

UNITS_AT_ONCE: Final = 2
"""In one actor: one is scored while the next one is read, or the last one written."""

Load = Callable[[BulkModel], UnitScorer]


def load_model_scorer(model: BulkModel) -> UnitScorer:
    """The engine's scorer, on the GPU that Ray gave this process or on CPU."""
    from rewardserve.engine.scorer import load_scorer  # noqa: PLC0415  (torch only in workers)

    settings = model.settings
    return load_scorer(
        settings.source,
        revision=settings.revision,
        device="cuda" if settings.gpus else "cpu",
        dtype=settings.dtype,
        name=model.name,
        max_tokens=settings.max_tokens,
        quantize=settings.quantize,
        pack_tokens=settings.pack_tokens,
        batch_invariant=settings.batch_invariant,
    )


@dataclass(frozen=True, slots=True)
class StageSettings:
    """What one stage is told."""

    model: BulkModel
    suffix: str
    corpus: CorpusReading
    bulk: BulkSettings
    """Of the whole run: the last stage evaluates its routes."""
    out: str
    run: str
    """The fingerprint that each part carries."""
    last: bool


@dataclass(frozen=True, slots=True)
class Readers:
    """What one unit's work reads the corpus with."""

    scoring: Reader
    copying: Reader


def first_row(unit: Unit) -> dict[str, Any]:
    """A unit as the first stage takes it."""
    state = {"columns": b"", "computed_tokens": "{}", "tokens": 0, "failure": "", "fatal": ""}
    return asdict(unit) | state


class ScoreStage:
    """One replica of one model; called with a unit's row and answers with that row, extended.

    May be called by UNITS_AT_ONCE threads.
    """

    def __init__(self, settings: StageSettings, load: Load, crashes: Any = None) -> None:
        self._settings = settings
        self._crashes = crashes
        corpus = settings.corpus
        self._desks = Desks([Readers(corpus.open(), corpus.open()) for _ in range(UNITS_AT_ONCE)])
        self._folder = Folder(settings.out)
        routed = settings.last and settings.bulk.routes.names
        self._routes = open_routes(settings.bulk, corpus) if routed else None
        self._broken = ""
        try:
            self._scorer = InTurn(load(settings.model))
        except Exception as error:  # noqa: BLE001  (reported by every unit, and ends the run)
            self._broken = f"model {settings.model.name} cannot be loaded: {_reason(error)}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score the row's unit. `failure` tells what went wrong; `fatal`, what must end the run."""
        if row["failure"]:
            return row
        if self._broken:
            return row | {"failure": self._broken, "fatal": "model"}
        try:
            with guarded(self._crashes, (self._settings.suffix, row["index"]), self._desks) as desk:
                return self._score(row, desk)
        except OutputFailed as error:
            return row | {"failure": error.message, "fatal": "output"}
        except SettingsError as error:
            return row | {"failure": error.message, "fatal": "settings"}
        except Exception as error:  # noqa: BLE001  (the border: the unit fails, the run goes on)
            return row | {"failure": _reason(error)}

    def _score(self, row: dict[str, Any], readers: Readers) -> dict[str, Any]:
        unit = Unit(**{name: row[name] for name in Unit.__slots__})
        settings = self._settings
        scored = score_unit(unit, settings.corpus, readers.scoring, self._scorer, settings.suffix)
        columns = scored.columns
        if row["columns"]:
            columns = beside(pa.ipc.open_stream(row["columns"]).read_all(), columns)
        computed = json.loads(row["computed_tokens"])
        computed[settings.model.name] = scored.computed_tokens
        if self._routes:
            columns = beside(columns, self._routes.columns(unit, readers.scoring, columns))
        if settings.last:
            self._write(unit, readers.copying, columns, computed)
        return row | {
            "tokens": row["tokens"] + scored.tokens,
            "computed_tokens": json.dumps(computed),
            "columns": b"" if settings.last else _to_bytes(columns),
        }

    def _write(
        self, unit: Unit, reader: Reader, columns: pa.Table, computed_tokens: dict[str, int]
    ) -> None:
        write_part(
            self._folder,
            unit.index,
            copy_rows(unit, self._settings.corpus, reader),
            columns,
            run=self._settings.run,
            computed_tokens=computed_tokens,
        )


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _reason(error: Exception) -> str:
    if isinstance(error, RewardServeError):
        return error.message
    return f"{type(error).__name__}: {error}"
