"""The ceilings: products with every weight of the layers, and nothing else.

What a perfect engine would cost that computes each token once and does no more than multiply:
once with `F.linear`, which is what plain torch multiplies with, and once with oneDNN's linear on
weights laid out for it beforehand, which on some CPUs is faster.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForSequenceClassification

from benchmarks.measure import timed
from benchmarks.peers.protocol import Batch, LoadedPeer, Outcome, Settings

PIECES = (256, 512, 1024, 2048)
"""Rows multiplied at once; the fastest is found at load."""


def _onednn(rows: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")  # type: ignore[no-any-return]  # noqa: SLF001 - it has no other name


PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"F.linear": linear, "oneDNN": _onednn}


class Matmul:
    """As many rows as the batch has tokens, rounded up to whole pieces, 2,048 at most."""

    packages = ("torch",)

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        model = AutoModelForSequenceClassification.from_pretrained(
            settings.folder, dtype=settings.dtype
        )
        self._multiply = PRODUCTS[settings.way]
        self._layers = [_weights(layer) for layer in model.base_model.layers]
        if settings.way == "oneDNN":
            self._layers = [[_laid_out(weight) for weight in layer] for layer in self._layers]
        self._piece = min(PIECES, key=self._seconds_a_row)

    def _seconds_a_row(self, piece: int) -> float:
        """From one layer's weights, after a first time that is not counted."""
        one_layer = self._layers[:1]
        self._run(one_layer, piece, 1)
        _, sample = timed(lambda: self._run(one_layer, piece, 2 * max(PIECES) // piece))
        return sample.cpu_s

    @torch.inference_mode()
    def _run(self, layers: list[list[Tensor]], piece: int, times: int) -> None:
        inputs = {
            weight.shape[1]: torch.randn(piece, weight.shape[1], dtype=weight.dtype)
            for weight in layers[0]
        }
        for _ in range(times):
            for layer in layers:
                for weight in layer:
                    self._multiply(inputs[weight.shape[1]], weight)

    def forget(self) -> None:
        """Nothing is kept between runs."""

    def score(self, batch: Batch) -> Outcome:
        """No scores."""
        tokens = min(sum(map(len, batch.sequences)), max(PIECES))
        times = -(-tokens // self._piece)
        self._run(self._layers, self._piece, times)
        return Outcome([], times * self._piece)


def _laid_out(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, PIECES[1])  # type: ignore[no-any-return]  # noqa: SLF001 - it has no other name


def _weights(layer: nn.Module) -> list[Tensor]:
    return [module.weight.detach() for module in layer.modules() if isinstance(module, nn.Linear)]


def load(settings: Settings) -> LoadedPeer:
    """The layers' weights of a checkpoint, multiplied in the way `PRODUCTS` names."""
    return Matmul(settings)
