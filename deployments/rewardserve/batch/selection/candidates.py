"""The scored answers to each prompt of an output folder, whatever the corpus's shape.

Pairs give two answers to a prompt, candidates as many as there are, single rows one: rows that
follow each other with the same prompt belong together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rewardserve.batch.columns import Layout
from rewardserve.batch.conversations import row_items
from rewardserve.batch.output import ScoredCorpus
from rewardserve.batch.reward_columns import reward_schema
from rewardserve.errors import InvalidRequest, SettingsError
from rewardserve_client import Prompt


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """One prompt's answers, those with a score."""

    prompt: Prompt
    responses: list[str]
    scores: list[float]


def model_named(scored: ScoredCorpus, name: str | None) -> str:
    """The model whose scores are to be used; raises SettingsError where that is not clear."""
    names = list(scored.suffixes)
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise SettingsError(f"choose one model with --model: {', '.join(names)}", "model")
    return name


def scored_prompts(scored: ScoredCorpus, model: str) -> Iterator[ScoredPrompt]:
    """Every prompt with at least one scored answer, in row order; raises DataError."""
    for _, group in groupby(_rows(scored, model), key=lambda row: row.prompt):
        rows = list(group)
        responses = [response for row in rows for response in row.responses]
        yield ScoredPrompt(rows[0].prompt, responses, [s for row in rows for s in row.scores])


def _rows(scored: ScoredCorpus, model: str) -> Iterator[ScoredPrompt]:
    manifest = scored.manifest
    layout = Layout(manifest["shape"], manifest["roles"], manifest["prompt_source"])
    schema = reward_schema(scored.shape, scored.suffixes[model])
    rewards = [field.name for field in schema if not field.name.startswith("margin")]
    for table in scored.batches([*layout.roles.values(), *rewards]):
        for row in table.to_pylist():
            prompt = _scored_row(layout, row, rewards)
            if prompt is not None:
                yield prompt


def _scored_row(layout: Layout, row: dict[str, Any], rewards: list[str]) -> ScoredPrompt | None:
    found = row[rewards[0]] if layout.shape == "candidates" else [row[name] for name in rewards]
    answers = [
        (item, reward["score"])
        for item, reward in zip(row_items(layout, row), found, strict=False)
        if not isinstance(item, InvalidRequest) and reward["score"] is not None
    ]
    if not answers:
        return None
    prompt = answers[0][0][:-1]
    same = [(item[-1]["content"], score) for item, score in answers if item[:-1] == prompt]
    return ScoredPrompt(_plain(prompt), [text for text, _ in same], [score for _, score in same])


def _plain(prompt: list[Any]) -> Prompt:
    """A single user turn as text, as most trainers write it."""
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        text: str = prompt[0]["content"]
        return text
    return prompt
