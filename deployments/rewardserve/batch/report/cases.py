"""Rows worth reading: where a model is surely wrong, and where models contradict each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rewardserve.batch.columns import Layout
from rewardserve.batch.conversations import row_items
from rewardserve.batch.output import ScoredCorpus
from rewardserve.batch.report import statistics
from rewardserve.batch.report.answers import Answers
from rewardserve.errors import InvalidRequest

CASES: Final = 5
MAX_TEXT: Final = 2000
"""Characters of a text that the page shows."""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """One answer of a case."""

    label: str
    scores: str
    text: str


@dataclass(frozen=True, slots=True)
class Case:
    """One row, as it is shown."""

    row: int
    subset: str
    prompt: str
    answers: list[ShownAnswer]


@dataclass(frozen=True, slots=True)
class Cases:
    """Rows of one kind."""

    title: str
    note: str
    cases: list[Case]


def find_cases(scored: ScoredCorpus, answers: Answers) -> list[Cases]:
    """The rows to show, with their texts; kinds without rows are left out. Raises DataError."""
    chosen: list[tuple[str, str, list[tuple[int, list[tuple[str, int]]]]]] = []
    for index, model in enumerate(answers.models):
        mistakes = statistics.most_confident_mistakes(answers, index, CASES)
        labelled = [(row, [("right", good), ("wrong", bad)]) for row, good, bad in mistakes]
        note = "The wrong answer's score is furthest above the right one's."
        chosen.append((f"Most confident mistakes of {model}", note, labelled))
    widest = statistics.widest_disagreements(answers, CASES)
    note = "The models' scores, each standardised over the corpus, lie furthest apart."
    contested = [(row, [("answer", place)]) for row, place in widest]
    chosen.append(("Widest disagreements between models", note, contested))
    numbers = {row for _, _, rows in chosen for row, _ in rows}
    texts = dict(scored.rows_at(numbers, list(scored.roles.values())))
    return [
        Cases(title, note, [_case(scored, answers, texts[row], row, picks) for row, picks in rows])
        for title, note, rows in chosen
        if rows
    ]


def _case(
    scored: ScoredCorpus,
    answers: Answers,
    values: dict[str, Any],
    row: int,
    picks: Iterable[tuple[str, int]],
) -> Case:
    manifest = scored.manifest
    layout = Layout(manifest["shape"], manifest["roles"], manifest["prompt_source"])
    items = row_items(layout, values)
    shown = [
        ShownAnswer(label, _scores(answers, row, place), _answer_text(items, place))
        for label, place in picks
    ]
    subset = str(values.get(layout.roles.get("subset", "")) or "")
    return Case(row, subset, _prompt_text(items), shown)


def _scores(answers: Answers, row: int, place: int) -> str:
    found = (answers.row_numbers == row) & (answers.positions == place)
    scores = answers.scores[found][0].tolist()
    return ", ".join(f"{m} {s:+.3f}" for m, s in zip(answers.models, scores, strict=True))


def _prompt_text(items: Sequence[Any]) -> str:
    whole = [item for item in items if not isinstance(item, InvalidRequest)]
    turns = whole[0][:-1] if whole else []
    return _shortened("\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns))


def _answer_text(items: Sequence[Any], place: int) -> str:
    item = items[place]
    return "" if isinstance(item, InvalidRequest) else _shortened(item[-1]["content"])


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} [{len(text) - MAX_TEXT:,} more]"
