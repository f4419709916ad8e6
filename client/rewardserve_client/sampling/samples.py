"""What rejection sampling gives for one prompt, and the file it is kept in.

A file of samples has one JSON object a line, in the order the prompts were finished. It is written
line by line, so that a run that ends early loses at most the prompts under way.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewardserve_client._errors import RewardClientError
from rewardserve_client._types import Message, Prompt


class SamplesConflict(RewardClientError):
    """The file holds samples of other prompts."""


@dataclass(frozen=True)
class Sample:
    """One prompt, what was generated for it, and what is kept."""

    index: int
    """The prompt's place in the input."""
    prompt: Prompt
    responses: tuple[str, ...]
    scores: tuple[float, ...]
    """One per response."""
    kept: tuple[int, ...]
    """Indices of the responses that are kept, best first."""

    def to_dict(self) -> dict[str, Any]:
        """A row of a samples file; `pairs.mine_rows` reads such rows too."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def to_sft(self) -> list[dict[str, Any]]:
        """One row of TRL's conversational prompt-completion format for each kept response."""
        prompt = self.prompt
        turns = [Message(role="user", content=prompt)] if isinstance(prompt, str) else list(prompt)
        return [
            {
                "prompt": turns,
                "completion": [Message(role="assistant", content=self.responses[index])],
                "score": self.scores[index],
            }
            for index in self.kept
        ]

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "Sample":
        """The inverse of `to_dict`."""
        lists = {name: tuple(row[name]) for name in ("responses", "scores", "kept")}
        return cls(index=row["index"], prompt=row["prompt"], **lists)


def read_samples(path: str | Path) -> list[Sample]:
    """The samples of a JSONL file, in the order of the prompts.

    A last line that was cut off in the middle is left out.
    """
    return sorted(_lines(Path(path)), key=lambda sample: sample.index)


class SampleFile:
    """A JSONL file that grows by one sample at a time and knows which prompts it has."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()
        self.samples = _recovered(path)
        self._prompts = {sample.index: sample.prompt for sample in self.samples}

    def has(self, index: int, prompt: Prompt) -> bool:
        """Whether this prompt is done; raises `SamplesConflict` if another one is in its place."""
        if index not in self._prompts:
            return False
        if self._prompts[index] != prompt:
            raise SamplesConflict(
                f"{self._path} holds another prompt at place {index}: choose another file, or "
                "delete it to start again"
            )
        return True

    def add(self, sample: Sample) -> None:
        """Appends the sample; it is in the file when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(sample))
        self.samples.append(sample)


def write_parquet(path: Path, samples: Iterable[Sample]) -> None:
    """The samples as a Parquet file, in the order of the prompts; needs pyarrow."""
    import pyarrow as pa  # noqa: PLC0415 - optional
    import pyarrow.parquet as pq  # noqa: PLC0415 - optional

    ordered = sorted(samples, key=lambda sample: sample.index)
    unfinished = path.with_name(path.name + ".unfinished")
    pq.write_table(pa.Table.from_pylist([sample.to_dict() for sample in ordered]), unfinished)
    unfinished.replace(path)


def _lines(path: Path) -> Iterator[Sample]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield Sample.from_dict(json.loads(line))


def _recovered(path: Path) -> list[Sample]:
    """The samples of a file that is to be continued; a line that was cut off is removed from it."""
    content = path.read_bytes()
    whole_lines = content.rfind(b"\n") + 1
    if whole_lines < len(content):
        os.truncate(path, whole_lines)
    return read_samples(path)


def _line(sample: Sample) -> str:
    return json.dumps(sample.to_dict(), ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
