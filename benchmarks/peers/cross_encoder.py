"""sentence-transformers' CrossEncoder at its defaults, without its sigmoid.

Takes nothing but text, so its own tokenising, a small part of the work, is in its time.
"""

import torch
from sentence_transformers import CrossEncoder
from torch import nn
from transformers import AutoConfig

from benchmarks.peers.protocol import Batch, LoadedPeer, Outcome, Settings


class Encoder:
    """Length-sorted batches of 32, as `predict` makes them."""

    packages = ("torch", "transformers", "sentence-transformers")

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        capped = getattr(
            AutoConfig.from_pretrained(settings.folder), "attn_logit_softcapping", None
        )
        self._encoder = CrossEncoder(
            settings.folder,
            device="cpu",
            activation_fn=nn.Identity(),
            model_kwargs={
                "dtype": settings.dtype,
                "attn_implementation": "eager" if capped else "sdpa",
            },
        )
        # Pairs are rendered already; with a template it would make messages of them.
        self._encoder.tokenizer.chat_template = None
        self._encoder[0].modality_config.pop("message", None)
        self._computed = 0
        self._encoder[0].register_forward_pre_hook(self._count)

    def _count(self, _: nn.Module, arguments: tuple[dict[str, torch.Tensor], ...]) -> None:
        self._computed += arguments[0]["input_ids"].numel()

    def forget(self) -> None:
        """Nothing is kept between runs."""

    def score(self, batch: Batch) -> Outcome:
        """Scores in order; padding counts as computed."""
        self._computed = 0
        scores = self._encoder.predict(
            [tuple(pair) for pair in batch.pairs], show_progress_bar=False
        )
        return Outcome([float(score) for score in scores], self._computed)


def load(settings: Settings) -> LoadedPeer:
    """The encoder of a checkpoint."""
    return Encoder(settings)
