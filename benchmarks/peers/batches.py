"""Plain transformers, three ways: the model card's loop, and padded batches of 8."""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from benchmarks.peers.protocol import Batch, LoadedPeer, Outcome, Settings

BATCH_SIZE = 8


class Batches:
    """`AutoModelForSequenceClassification` on right-padded batches."""

    packages = ("torch", "transformers")

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            settings.folder, dtype=settings.dtype
        ).eval()
        # SDPA cannot cap logits, which Gemma-2 needs: its card asks for eager attention.
        capped = getattr(self._model.config, "attn_logit_softcapping", None)
        self._model.set_attn_implementation("eager" if capped else "sdpa")
        self._way = settings.way

    def forget(self) -> None:
        """Nothing is kept between runs."""

    @torch.inference_mode()
    def score(self, batch: Batch) -> Outcome:
        """Scores in order; padding counts as computed."""
        scores = [0.0] * len(batch.sequences)
        computed = 0
        for indices in chosen(self._way, [len(item) for item in batch.sequences]):
            rows = [batch.sequences[index] for index in indices]
            inputs = padded(rows, self._model.config.pad_token_id)
            computed += inputs["input_ids"].numel()
            logits = self._model(**inputs, use_cache=False).logits[:, 0].float().tolist()
            for index, score in zip(indices, logits, strict=True):
                scores[index] = score
        return Outcome(scores, computed)


def padded(rows: list[list[int]], pad: int) -> dict[str, Tensor]:
    """Inputs [rows, longest row], padded on the right; `pad` occurs nowhere else."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != pad).long()}


def chosen(way: str, lengths: list[int]) -> Iterator[list[int]]:
    """The indices of each batch."""
    order = list(range(len(lengths)))
    if way == "sorted by length":
        order.sort(key=lengths.__getitem__)
    size = 1 if way == "one at a time" else BATCH_SIZE
    for first in range(0, len(order), size):
        yield order[first : first + size]


def load(settings: Settings) -> LoadedPeer:
    """The model in one of the ways `chosen` knows."""
    return Batches(settings)
