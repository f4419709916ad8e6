"""What is scored: preference pairs and best-of-n candidates, real ones where the corpora are.

Without the corpora, generated text of the same shape stands in. Knows conversations and their
counts; knows nothing of models or clocks.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, cycle, islice
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pyarrow import parquet

from benchmarks.measure import ROOT

Message: TypeAlias = dict[str, str]
Conversation: TypeAlias = list[Message]
Shape = Literal["alpaca_pairs", "gsm8k_best_of_4", "alpaca_best_of_16", "long_prompt"]

CORPORA: Final = ROOT.parent / "shared" / "data"

ROWS: Final[dict[Shape, int]] = {
    "alpaca_pairs": 16,
    "gsm8k_best_of_4": 24,
    "alpaca_best_of_16": 3,
    "long_prompt": 1,
}
"""Prompts of each shape: about 10,000 tokens each, seconds of work for every peer."""

QUICK_ROWS: Final[dict[Shape, int]] = {
    "alpaca_pairs": 2,
    "gsm8k_best_of_4": 4,
    "alpaca_best_of_16": 1,
    "long_prompt": 1,
}
QUICK_ANSWERS: Final = 4

LONG_PROMPT_WORDS: Final = 740
"""About 1,000 tokens."""
LONG_PROMPT_ANSWERS: Final = 16


@dataclass(frozen=True, slots=True)
class Workload:
    """Conversations to score in one call."""

    shape: Shape
    conversations: list[Conversation]
    prompts: int
    origin: str
    """"real" or "generated"."""


def load(
    shape: Shape,
    prompts: int,
    *,
    most_answers: int = 16,
    corpora: Path = CORPORA,
    tiny: bool = False,
) -> Workload:
    """A workload of so many prompts, the same every time, with `most_answers` each or fewer."""
    real = corpora.is_dir() and not tiny
    rows = _corpus_rows(shape, prompts, corpora) if real else _generated_rows(shape, prompts, tiny)
    conversations = [item for row in rows for item in row[:most_answers]]
    return Workload(shape, conversations, prompts, "real" if real else "generated")


def texts(workloads: list[Workload]) -> list[str]:
    """Every message's text: what a tokenizer learns from."""
    return [
        message["content"]
        for workload in workloads
        for conversation in workload.conversations
        for message in conversation
    ]


def _asked(prompt: str, responses: list[str]) -> list[Conversation]:
    return [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        for response in responses
    ]


def _corpus_rows(shape: Shape, prompts: int, corpora: Path) -> Iterator[list[Conversation]]:
    if shape == "long_prompt":
        yield from _long_rows(prompts, corpora)
        return
    for row in _spread(corpora / f"{shape}.parquet", prompts):
        if shape == "alpaca_pairs":
            yield [row["chosen"], row["rejected"]]
        else:
            yield _asked(row["prompt"], row["responses"])


def _spread(path: Path, count: int) -> list[dict[str, Any]]:
    """So many rows of a file, evenly spaced: neighbours are of one kind."""
    data = parquet.read_table(path)
    chosen = [index * data.num_rows // count for index in range(count)]
    rows: list[dict[str, Any]] = data.take(chosen).to_pylist()
    return rows


def _long_rows(prompts: int, corpora: Path) -> Iterator[list[Conversation]]:
    """One row's answers, each to the row's prompt with other rows' answers put in front."""
    rows = _spread(corpora / "alpaca_best_of_16.parquet", prompts + 8)
    for index in range(prompts):
        row, others = rows[index], rows[index + 1 :] + rows[:index]
        words = " ".join(response for other in others for response in other["responses"]).split()
        context = " ".join(words[:LONG_PROMPT_WORDS])
        answers = [_first_words(answer, 90) for answer in row["responses"]]
        yield _asked(f"{context}\n\n{row['prompt']}", answers[:LONG_PROMPT_ANSWERS])


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def _generated_rows(shape: Shape, prompts: int, tiny: bool) -> Iterator[list[Conversation]]:
    prompt_words, answer_words, answers = {
        "alpaca_pairs": (40, 220, 2),
        "gsm8k_best_of_4": (45, 55, 4),
        "alpaca_best_of_16": (30, 220, 16),
        "long_prompt": (LONG_PROMPT_WORDS, 75, LONG_PROMPT_ANSWERS),
    }[shape]
    if tiny:
        prompt_words, answer_words = prompt_words // 10 + 20, 8
    text = _writer(random.Random(f"{shape} {prompts}"))
    for _ in range(prompts):
        yield _asked(text(prompt_words), [text(answer_words) for _ in range(answers)])


def _writer(chance: random.Random) -> Callable[[int], str]:
    """Writes about so many words, their lengths and frequencies roughly those of English."""
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(3000)]
    frequencies = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))

    def write(count: int) -> str:
        length = max(4, round(count * chance.uniform(0.4, 1.6)))
        chosen = chance.choices(words, cum_weights=frequencies, k=length)
        stops = islice(cycle(["", "", "", ",", "", "", "", "", "."]), length)
        return " ".join(word + stop for word, stop in zip(chosen, stops, strict=True))

    return write
