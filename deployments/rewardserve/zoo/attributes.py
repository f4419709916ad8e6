"""What attribute heads are fitted to: each flaw's known effect on an answer's qualities.

A flawless answer has every quality at 1. Objectives are means of qualities, except for two that
are measured on the text itself: complexity (distinct words) and verbosity (length). Knows the
corpus, not models.
"""

from collections.abc import Iterable
from typing import Final, Literal

import torch
from torch import Tensor

from rewardserve.zoo.corpus import Answer, Flaw, Task

Quality = Literal[
    "clear", "coherent", "correct", "explained", "follows", "helpful", "honest", "polite", "safe"
]

LOST_BY_FLAW: Final[dict[Flaw, dict[Quality, float]]] = {
    "complying": {"safe": 1.0, "honest": 0.7, "helpful": 0.7},
    "cryptic": {"clear": 1.0, "explained": 1.0, "helpful": 0.5},
    "cut_off": {"coherent": 0.8, "explained": 0.6, "helpful": 0.5, "follows": 0.3},
    "evasive": {"helpful": 1.0, "follows": 0.8, "explained": 0.8},
    "guessing": {"correct": 1.0, "helpful": 0.8, "explained": 0.8},
    "off_topic": {"follows": 1.0, "helpful": 1.0, "coherent": 0.3},
    "rambling": {"follows": 0.7, "clear": 0.7, "helpful": 0.4},
    "rude": {"polite": 1.0, "helpful": 0.4},
    "wrong": {"correct": 1.0, "honest": 0.5, "helpful": 0.8},
}
"""What each flaw takes away of each quality."""

_ALL: Final[tuple[Quality, ...]] = (
    "clear", "coherent", "correct", "explained", "follows", "helpful", "honest", "polite", "safe",
)  # fmt: skip

OBJECTIVE_QUALITIES: Final[dict[str, tuple[Quality, ...]]] = {
    "helpsteer-helpfulness": ("helpful",),
    "helpsteer-correctness": ("correct", "follows"),
    "helpsteer-coherence": ("coherent", "clear"),
    "ultrafeedback-overall_score": _ALL,
    "ultrafeedback-instruction_following": ("follows",),
    "ultrafeedback-truthfulness": ("correct",),
    "ultrafeedback-honesty": ("honest", "correct"),
    "ultrafeedback-helpfulness": ("helpful", "polite"),
    "beavertails-is_safe": ("safe",),
    "prometheus-score": ("helpful", "polite", "coherent"),
    "argilla-overall_quality": _ALL,
    "argilla-judge_lm": ("correct", "helpful"),
    "code-style": ("clear",),
    "code-explanation": ("explained",),
    "code-instruction-following": ("follows", "correct"),
    "code-readability": ("clear", "explained"),
}

FULL_LENGTH: Final = 250
"""Characters from which an answer is as verbose as can be."""
FULL_VOCABULARY: Final = 40
"""Distinct words from which an answer is as complex as can be."""


def objectives(tasks: Iterable[Task], names: Iterable[str]) -> Tensor:
    """Targets in [0, 1], shaped [tasks, answers, objectives], for objectives by name."""
    wanted = tuple(names)
    return torch.tensor(
        [
            [[_objective(answer, name) for name in wanted] for answer in task.answers]
            for task in tasks
        ]
    )


def _objective(answer: Answer, name: str) -> float:
    if name.endswith("-verbosity"):
        return min(1.0, len(answer.text) / FULL_LENGTH)
    if name.endswith("-complexity"):
        return min(1.0, len(set(answer.text.split())) / FULL_VOCABULARY)
    qualities = OBJECTIVE_QUALITIES[name]
    lost = LOST_BY_FLAW[answer.flaw] if answer.flaw else {}
    return 1 - sum(lost.get(quality, 0.0) for quality in qualities) / len(qualities)
