"""Every metric of the cluster, declared in one place, for Ray's own Prometheus exporter.

Ray adds `application`, `deployment` and `replica` labels and the prefix `ray_`. All other labels
have few values: names from the settings and error codes. Knows nothing of how numbers come about.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from ray.serve.metrics import Counter, Histogram

from rewardserve.engine.batcher import PackReport
from rewardserve_client._types import Reward

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]
SHARES = [0.1, 0.25, 0.5, 0.75, 0.9, 1.0]
SPREADS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
SCORES = [-50, -20, -10, -5, -2, -1, -0.5, -0.2, -0.1, 0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]


class ModelMetrics:
    """What one replica of a model reports."""

    def __init__(self, *, pack_tokens: int) -> None:
        self._pack_tokens = pack_tokens
        self._scores = ScoreHistogram()
        self._conversations = Counter("rewardserve_conversations", "Conversations scored.")
        self._tokens = Counter("rewardserve_tokens", "Tokens scored, before prefix sharing.")
        self._computed = Counter("rewardserve_computed_tokens", "Tokens after prefix sharing.")
        self._packs = Counter("rewardserve_packs", "Forwards run.")
        self._forward = Counter("rewardserve_forward_seconds", "Seconds the device was busy.")
        self._fill = Histogram("rewardserve_pack_fill", "Part of a pack used.", SHARES)
        self._queue = Histogram(
            "rewardserve_queue_seconds", "Wait of each pack's oldest conversation.", SECONDS
        )
        self._dropped = Counter(
            "rewardserve_dropped", "Conversations whose caller left or whose deadline passed."
        )

    def pack(self, report: PackReport) -> None:
        """One forward was run."""
        self._conversations.inc(report.conversations)
        self._tokens.inc(report.tokens)
        self._computed.inc(report.computed_tokens)
        self._packs.inc()
        self._forward.inc(report.forward_s)
        self._fill.observe(report.computed_tokens / self._pack_tokens)
        self._queue.observe(report.queue_s)
        self._scores.add(report.scores)

    def dropped(self, conversations: int) -> None:
        """Conversations left the queue unscored."""
        self._dropped.inc(conversations)


class RouterMetrics:
    """What one replica of the router reports."""

    def __init__(self) -> None:
        self._requests = Counter(
            "rewardserve_requests",
            "Requests answered, by route and code.",
            _labels("route", "code"),
        )
        self._seconds = Histogram(
            "rewardserve_request_seconds", "From routing to answer.", SECONDS, _labels("route")
        )
        self._spread = Histogram(
            "rewardserve_spread",
            "Disagreement of an ensemble's members.",
            SPREADS,
            _labels("route"),
        )
        self._failures = Counter(
            "rewardserve_member_failures",
            "Calls of a model that failed.",
            _labels("member", "code"),
        )
        self._deaths = Counter(
            "rewardserve_replica_deaths", "Calls whose replica died.", _labels("member")
        )

    def answered(self, route: str, seconds: float, rewards: Sequence[Sequence[Reward]]) -> None:
        """A request was answered with rewards."""
        self._requests.inc(1, {"route": route, "code": "ok"})
        self._seconds.observe(seconds, {"route": route})
        for reward in (reward for group in rewards for reward in group):
            if reward.uncertainty and "spread" in reward.uncertainty:
                self._spread.observe(reward.uncertainty["spread"], {"route": route})

    def refused(self, route: str, code: str) -> None:
        """A request was answered with an error."""
        self._requests.inc(1, {"route": route, "code": code})

    def member_failed(self, member: str, code: str) -> None:
        """A model gave an error instead of rewards."""
        self._failures.inc(1, {"member": member, "code": code})

    def replica_died(self, member: str) -> None:
        """A call has to be sent again, or is given up."""
        self._deaths.inc(1, {"member": member})


def _labels(*names: str) -> Any:
    # Ray's annotation allows one label, its code any number.
    return names


class ScoreHistogram:
    """Scores in cumulative buckets, as Prometheus has them.

    Ray's own histogram takes no boundary below zero, and scores go there.
    """

    def __init__(self) -> None:
        self._buckets = Counter("rewardserve_score_bucket", "Scores at most `le`.", _labels("le"))

    def add(self, scores: Sequence[float]) -> None:
        """Count each score in every bucket it fits into."""
        for le, count in cumulative(scores).items():
            if count:
                self._buckets.inc(count, {"le": le})


def cumulative(scores: Sequence[float]) -> dict[str, int]:
    """Bucket boundary -> how many scores are at most that."""
    counts = [0] * (len(SCORES) + 1)
    for score in scores:
        counts[bisect_left(SCORES, score)] += 1
    total, buckets = 0, {}
    for boundary, count in zip([*map(str, SCORES), "+Inf"], counts, strict=True):
        total += count
        buckets[boundary] = total
    return buckets
