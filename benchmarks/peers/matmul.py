"""The ceiling: `F.linear` with every weight of the layers, and nothing else.

What a perfect engine would cost that computes each token once and does no more than multiply.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForSequenceClassification

from benchmarks.measure import timed
from benchmarks.peers.protocol import Batch, LoadedPeer, Outcome, Settings

PIECES = (256, 512, 1024, 2048)
"""Rows multiplied at once; the fastest is found at load."""


class Matmul:
    """As many rows as the batch has tokens, rounded up to whole pieces, 2,048 at most."""

    packages = ("torch",)

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        model = AutoModelForSequenceClassification.from_pretrained(
            settings.folder, dtype=settings.dtype
        )
        layers = model.base_model.layers
        self._weights = [
            module.weight.detach() for module in layers.modules() if isinstance(module, nn.Linear)
        ]
        self._piece = min(PIECES, key=self._seconds_a_row)

    def _seconds_a_row(self, piece: int) -> float:
        self._multiply(piece, 1)
        _, sample = timed(lambda: self._multiply(piece, max(PIECES) // piece))
        return sample.wall_s

    @torch.inference_mode()
    def _multiply(self, piece: int, times: int) -> None:
        inputs: dict[int, Tensor] = {
            width: torch.randn(piece, width, dtype=self._weights[0].dtype)
            for width in {weight.shape[1] for weight in self._weights}
        }
        for _ in range(times):
            for weight in self._weights:
                linear(inputs[weight.shape[1]], weight)

    def forget(self) -> None:
        """Nothing is kept between runs."""

    def score(self, batch: Batch) -> Outcome:
        """No scores."""
        tokens = min(sum(map(len, batch.sequences)), max(PIECES))
        times = -(-tokens // self._piece)
        self._multiply(self._piece, times)
        return Outcome([], times * self._piece)


def load(settings: Settings) -> LoadedPeer:
    """The layers' weights of a checkpoint."""
    return Matmul(settings)
