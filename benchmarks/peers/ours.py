"""rewardserve in process: `load_scorer`, then encode, pack, forward and head."""

from typing import cast

import torch

from benchmarks.peers.protocol import Batch, LoadedPeer, Outcome, Settings
from rewardserve.engine.scorer import load_scorer
from rewardserve.settings import Dtype


class Ours:
    """One `Scorer`."""

    packages = ("rewardserve", "torch", "transformers")

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._scorer = load_scorer(
            settings.folder,
            dtype=cast("Dtype", settings.dtype),
            batch_invariant=settings.way == "batch_invariant",
        )

    def forget(self) -> None:
        """Nothing is kept between runs."""

    def score(self, batch: Batch) -> Outcome:
        """Scores in order; tree building is in the time."""
        encoded = [self._scorer.encode(row) for row in batch.sequences]
        scored = self._scorer.score_encoded(encoded)
        return Outcome([reward.score for reward in scored.rewards], scored.computed_tokens)


def load(settings: Settings) -> LoadedPeer:
    """The scorer of a checkpoint."""
    return Ours(settings)
