"""What 8-bit weights change: one model's scores of the demo's held-out pairs, exact and rounded.

Scoring is passed in; knows the corpus and what to count. Loads nothing.
"""

from collections.abc import Callable
from typing import Final

from rewardserve.families.verify import QuantizationEffect, Score, quantization_effect
from rewardserve.settings import Quantization
from rewardserve.zoo.corpus import conversation, generate_corpus

TASKS_PER_SUBSET: Final = 20


def measure_quantization(
    load: Callable[[Quantization | None], Score], how: Quantization
) -> QuantizationEffect:
    """Differences and order agreement over pairs of a good and a flawed answer.

    `load` gives the scoring of the model with that quantisation; the exact one is done with before
    the rounded one is asked for, so that both never have to fit at once.
    """
    tasks = generate_corpus(0, TASKS_PER_SUBSET).held_out
    pairs = [conversation(task, answer) for task in tasks for answer in task.answers[:2]]
    exact = [reward.score for reward in load(None)(pairs)]
    rounded = [reward.score for reward in load(how)(pairs)]
    return quantization_effect(exact, rounded)
