"""The corpus as Parquet, in the two shapes that bulk scoring and best-of-n read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from rewardserve.zoo.corpus import Corpus, Task, conversation, shuffled

_MESSAGES: Final = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

PAIRS_SCHEMA: Final = pa.schema(
    [("id", pa.string()), ("chosen", _MESSAGES), ("rejected", _MESSAGES), ("subset", pa.string())]
)
CANDIDATES_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.string()),
        ("responses", pa.list_(pa.string())),
        ("labels", pa.list_(pa.bool_())),
        ("subset", pa.string()),
    ]
)


def write_corpus(corpus: Corpus, folder: Path) -> None:
    """pairs and candidates of the fitting split, and both again, `-heldout`, of the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for tasks, suffix in ((corpus.fit, ""), (corpus.held_out, "-heldout")):
        pairs = pa.Table.from_pylist(_pairs(tasks), schema=PAIRS_SCHEMA)
        candidates = pa.Table.from_pylist(_candidates(tasks), schema=CANDIDATES_SCHEMA)
        pq.write_table(pairs, folder / f"pairs{suffix}.parquet")
        pq.write_table(candidates, folder / f"candidates{suffix}.parquet")


def _pairs(tasks: Sequence[Task]) -> list[dict[str, object]]:
    return [
        {
            "id": f"pair-{number:05}",
            "chosen": conversation(task, task.answers[0]),
            "rejected": conversation(task, task.answers[1]),
            "subset": task.subset,
        }
        for number, task in enumerate(tasks)
    ]


def _candidates(tasks: Sequence[Task]) -> list[dict[str, object]]:
    """Tasks of one turn alone, for a prompt here is plain text."""
    single = [task for task in tasks if len(task.prompt) == 1]
    return [
        {
            "id": f"candidates-{number:05}",
            "prompt": task.prompt[0]["content"],
            "responses": [answer.text for answer in answers],
            "labels": [answer.flaw is None for answer in answers],
            "subset": task.subset,
        }
        for number, (task, answers) in enumerate(zip(single, shuffled(single), strict=True))
    ]
