"""Reading a finished output folder: its manifest, and chosen columns of its parts in row order."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewardserve.batch.columns import Shape
from rewardserve.batch.manifest import MANIFEST
from rewardserve.batch.parts import computed_tokens_of, part_name
from rewardserve.batch.reward_columns import suffixes
from rewardserve.batch.storage import Folder
from rewardserve.errors import DataError

BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class ScoredCorpus:
    """The output of one run."""

    folder: Folder
    manifest: dict[str, Any]

    @property
    def shape(self) -> Shape:
        """Of the corpus."""
        shape: Shape = self.manifest["shape"]
        return shape

    @property
    def roles(self) -> dict[str, str]:
        """Role -> input column."""
        roles: dict[str, str] = self.manifest["roles"]
        return roles

    @property
    def suffixes(self) -> dict[str, str]:
        """Model or route -> what its reward columns' names end with."""
        return suffixes([*self.models, *self.manifest["routes"]])

    @property
    def models(self) -> list[str]:
        """Names of the models; the other names are routes over these models' rewards."""
        return [model["name"] for model in self.manifest["models"]]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Those columns (or leaves of them, as `chosen_reward.score`), in the input's row order.

        Raises DataError for a part that is missing or damaged.
        """
        for index in range(self.manifest["units"]):
            for batch in self._open(index).iter_batches(BATCH_ROWS, columns=list(columns)):
                yield pa.Table.from_batches([batch])

    @property
    def columns(self) -> list[str]:
        """Names of all columns; none where the corpus has no rows."""
        if not self.manifest["units"]:
            return []
        return list(self._open(0).schema_arrow.names)

    def rows_at(
        self, numbers: Collection[int], columns: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number, values) of the rows with these numbers; parts without any are not read."""
        first = 0
        for index in range(self.manifest["units"]):
            part = self._open(index)
            rows = part.metadata.num_rows
            wanted = sorted(n for n in numbers if first <= n < first + rows)
            if wanted:
                table = part.read(columns=list(columns))
                for number in wanted:
                    yield number, table.slice(number - first, 1).to_pylist()[0]
            first += rows

    def computed_tokens(self) -> Iterator[dict[str, int]]:
        """Model -> computed tokens, for each part."""
        for index in range(self.manifest["units"]):
            yield computed_tokens_of(self._open(index).metadata)

    def _open(self, index: int) -> pq.ParquetFile:
        name = part_name(index)
        try:
            return pq.ParquetFile(self.folder.open_input(name), pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{self.folder.path}/{name} is missing or damaged; run the same command again: "
                "it writes what is missing"
            ) from error


def open_scored(path: str) -> ScoredCorpus:
    """The output folder of a run; raises DataError where there is none."""
    folder = Folder(path)
    manifest = folder.read_json(MANIFEST)
    if manifest is None:
        raise DataError(f"{path} is no output of `rewardserve score`: it has no {MANIFEST}")
    return ScoredCorpus(folder, manifest)
