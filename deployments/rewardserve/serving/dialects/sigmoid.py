"""The one squashing that protocols ask for; everywhere else scores are raw."""

import numpy as np

from rewardserve.routing import normalizers
from rewardserve_client._types import Reward


def sigmoid_of(reward: Reward) -> float:
    """1 / (1 + exp(-score)), which is what a classifier with one label makes of its logit."""
    return float(normalizers.sigmoid(np.array([reward.score]))[0])
