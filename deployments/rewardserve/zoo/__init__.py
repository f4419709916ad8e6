"""Tiny reward models with the real architectures, and the corpus they are fitted on.

For the demo and the tests: seven checkpoints of under a megabyte each, one per supported model,
that load like the originals and rank a held-out split of the generated corpus well. They judge
how an answer is given far better than whether it is true, and nothing beyond their corpus.
"""

from rewardserve.zoo.write import ZOO_MODELS, write_zoo

__all__ = ["ZOO_MODELS", "write_zoo"]
