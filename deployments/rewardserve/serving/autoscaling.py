"""How many replicas a model needs: as many as are busy, and as many as the backlog asks for.

Counting requests would take one sample for a thousand, so replicas report device time instead. Pure
arithmetic; Ray calls it, applies the delays and bounds of the settings, and wakes a model that was
scaled to zero. Knows nothing of tokens, requests or Ray's clock.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

BUSY_SHARE = 0.8
"""Part of the time that a device should be busy; the rest absorbs unevenness."""

DRAIN_S = 30.0
"""A backlog should be gone in so many seconds. Much less, and what gathers while one replica loads
would start many more."""


def replicas_for(*, busy: float, backlog_s: float, ongoing: float) -> int:
    """Replicas for devices that are `busy` (a sum of shares) with `backlog_s` seconds of work left.

    ceil(busy / BUSY_SHARE + backlog_s / DRAIN_S), and at least one while calls are `ongoing`.
    """
    wanted = math.ceil(busy / BUSY_SHARE + backlog_s / DRAIN_S)
    return max(wanted, 1) if ongoing > 0 else wanted


class BacklogPolicy:
    """The policy that Ray asks; reads what `RewardModel.record_autoscaling_stats` reports."""

    def __call__(self, context: "AutoscalingContext") -> tuple[int, dict[str, float]]:
        """Wanted replicas, before Ray's delays and bounds."""
        reported = context.aggregated_metrics or {}
        busy = sum(reported.get("busy", {}).values())
        backlog_s = sum(reported.get("backlog_s", {}).values())
        wanted = replicas_for(
            busy=busy, backlog_s=backlog_s, ongoing=context.total_num_requests or 0
        )
        return wanted, {}
