"""Training a tiny backbone with a readout, so that the good answer of each task comes first.

The loss is the listwise form of Bradley-Terry: the log-softmax of the good answer's score among
the answers of its task. One pass over the fitting split takes seconds on one core. Knows token
ids and modules, not texts or files.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rewardserve.families.base import Head, TokenIds

TASKS_PER_STEP: Final = 16
LEARNING_RATE: Final = 4e-3
WARM_UP_STEPS: Final = 5
LARGEST_GRADIENT: Final = 1.0
"""Norm to which gradients are cut; without it one early step can flatten a Gemma for good."""

Sequences = Sequence[TokenIds]


def train(
    backbone: PreTrainedModel, head: Head, readout: nn.Module, tasks: Sequence[Sequences]
) -> None:
    """One pass over `tasks` (token ids of each one's answers, the good first), all weights free.

    `readout` maps the last token's state [answers, hidden] to scores [answers, 1].
    """
    parameters = [*backbone.parameters(), *readout.parameters()]
    plan = _batches(tasks)

    def loss(step: int) -> Tensor:
        answers = [answer for index in plan[step] for answer in tasks[index]]
        scores: Tensor = readout(states(backbone, head, answers)[:, -1])
        return ranking_loss(scores.view(len(plan[step]), -1))

    descend(parameters, loss, steps=len(plan), learning_rate=LEARNING_RATE)


def states(backbone: PreTrainedModel, head: Head, sequences: Sequences) -> Tensor:
    """Hidden states [sequences, reads, hidden] at the head's readouts, in one padded forward.

    Padding is on the right, where causal attention never sees it.
    """
    padded = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in sequences], batch_first=True)
    hidden: Tensor = backbone(input_ids=padded.long(), use_cache=False).last_hidden_state
    positions = torch.tensor([head.readouts(ids) for ids in sequences])
    return hidden[torch.arange(len(sequences))[:, None], positions]


@torch.no_grad()
def task_states(backbone: PreTrainedModel, head: Head, tasks: Sequence[Sequences]) -> Tensor:
    """Hidden states [tasks, answers, reads, hidden], without gradients."""
    by_task: dict[int, Tensor] = {}
    for batch in _batches(tasks):
        flat = states(backbone, head, [answer for index in batch for answer in tasks[index]])
        by_task.update(zip(batch, flat.chunk(len(batch)), strict=True))
    return torch.stack([by_task[index] for index in range(len(tasks))])


def ranking_loss(scores_T_A: Tensor) -> Tensor:  # noqa: N803 -- tasks, answers
    """How unlikely the scores make the good answers, which stand in column 0."""
    return -torch.log_softmax(scores_T_A, dim=-1)[:, 0].mean()


def descend(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """AdamW on `loss(step)`, the rate warmed up and then let down to zero in a straight line."""
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), fused=True)
    for step in range(steps):
        rate = learning_rate * min((step + 1) / WARM_UP_STEPS, 1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        torch.autograd.backward(loss(step))
        nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        optimizer.step()


def _batches(tasks: Sequence[Sequences]) -> list[list[int]]:
    """Task indices by batch: tasks of like length together, batches in random order."""
    order = sorted(range(len(tasks)), key=lambda index: max(map(len, tasks[index])))
    starts = range(0, len(order), TASKS_PER_STEP)
    batches = [order[start : start + TASKS_PER_STEP] for start in starts]
    Random(0).shuffle(batches)  # noqa: S311 -- reproducible order, no secret
    return batches
