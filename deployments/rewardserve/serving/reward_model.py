"""The deployment of one reward model: each replica encodes, queues and scores.

A shell around `Scorer` and `Batcher`. Serve admits hundreds of calls at a time because queueing
happens here, in tokens, and not at the handles. Knows nothing of routes or HTTP.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ray import serve

from rewardserve.engine.batcher import Batcher
from rewardserve.errors import InvalidRequest
from rewardserve.routing.evaluate import Item
from rewardserve.serving.answers import ModelAnswer, ModelDescription
from rewardserve.serving.logs import configure_logs
from rewardserve.serving.metrics import ModelMetrics
from rewardserve.settings import ModelSettings
from rewardserve_client._types import Message, Priority

if TYPE_CHECKING:
    from rewardserve.engine.scorer import Scorer
    from rewardserve.families.base import Encoded

TOKENIZER_THREADS = 4
"""Tokenizers release the interpreter lock; more threads than this only queue for it."""

LONGEST_FORWARD_S = 120.0
"""A forward that runs longer hangs; the replica is replaced."""

FAILURES_IN_A_ROW = 3
"""Unexpected errors of so many forwards without one success: the device is gone."""

_WARM_UP = [Message(role="user", content="Hello"), Message(role="assistant", content="Hello!")]


def loaded_scorer(settings: ModelSettings) -> "Scorer":
    """The scorer that the settings describe, named after its application."""
    # Here and not above, so that neither the builder nor the router loads torch.
    from rewardserve.engine.scorer import load_scorer  # noqa: PLC0415

    return load_scorer(
        settings.source,
        revision=settings.revision,
        device="cuda" if settings.gpus else "cpu",
        dtype=settings.dtype,
        name=serve.get_replica_context().app_name,
        max_tokens=settings.max_tokens,
        quantize=settings.quantize,
        pack_tokens=settings.pack_tokens,
        batch_invariant=settings.batch_invariant,
        prefix_cache_gib=settings.prefix_cache_gib,
    )


class RewardModel:
    """One replica of one reward model; up once it has scored."""

    def __init__(
        self, settings: ModelSettings, load: "Callable[[ModelSettings], Scorer]" = loaded_scorer
    ) -> None:
        configure_logs()
        self._scorer = load(settings)
        self._scorer.score([_WARM_UP])
        self._tokenizers = ThreadPoolExecutor(TOKENIZER_THREADS, thread_name_prefix="tokenizer")
        metrics = ModelMetrics(pack_tokens=self._scorer.pack_tokens)
        self._batcher = Batcher(
            self._scorer,
            pack_tokens=self._scorer.pack_tokens,
            queue_tokens=settings.queue_tokens,
            on_pack=metrics.pack,
            on_drop=metrics.dropped,
        )
        self._reported_at, self._reported_busy_s = time.monotonic(), 0.0

    async def score(
        self,
        items: Sequence[Item],
        truncate: bool,
        priority: Priority,
        deadline_s: float,
        alone: bool,
    ) -> ModelAnswer:
        """Rewards of `items`, in order, within `deadline_s` seconds; `alone` shares no forward.

        Raises Busy, DeadlineExceeded, ModelFailed, and InvalidRequest whose `param` is the item's
        index.
        """
        began = time.monotonic()
        self._batcher.refuse_if_full(priority)
        encoded = await asyncio.get_running_loop().run_in_executor(
            self._tokenizers, _encode, self._scorer, items, truncate
        )
        render_s = time.monotonic() - began
        scored = await self._batcher.score(
            encoded, priority=priority, deadline_s=deadline_s - render_s, alone=alone
        )
        return ModelAnswer(
            rewards=scored.rewards,
            tokens=scored.tokens,
            computed_tokens=scored.computed_tokens,
            render_s=render_s,
            queue_s=scored.queue_s,
            forward_s=scored.forward_s,
        )

    async def forget_prefixes(self) -> None:
        """Compute every prefix anew, as measurements want it."""
        await self._batcher.between_forwards(self._scorer.forget_prefixes)

    async def describe(self) -> ModelDescription:
        """What this replica has loaded."""
        scorer = self._scorer
        return ModelDescription(
            family=scorer.family,
            source=scorer.source,
            revision=scorer.revision,
            max_tokens=scorer.max_tokens,
            attention=scorer.attention,
            pack_tokens=scorer.pack_tokens,
        )

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaling policy reads of each replica."""
        now, busy_s = time.monotonic(), self._batcher.busy_s
        share = (busy_s - self._reported_busy_s) / max(now - self._reported_at, 1e-6)
        self._reported_at, self._reported_busy_s = now, busy_s
        return {
            "queued_tokens": float(self._batcher.queued_tokens),
            "backlog_s": self._batcher.backlog_s,
            "busy": min(share, 1.0),
        }

    def check_health(self) -> None:
        """Raises when the device thread hangs or can no longer score."""
        if self._batcher.stopped:
            raise RuntimeError("nothing feeds the device any more")
        if self._batcher.forward_running_s > LONGEST_FORWARD_S:
            raise RuntimeError(f"a forward has been running for over {LONGEST_FORWARD_S:.0f} s")
        if self._batcher.consecutive_failures >= FAILURES_IN_A_ROW:
            raise RuntimeError(f"the last {FAILURES_IN_A_ROW} forwards failed")


def _encode(scorer: "Scorer", items: Sequence[Item], truncate: bool) -> "list[Encoded]":
    encoded = []
    for index, item in enumerate(items):
        try:
            encoded.append(scorer.encode(item, truncate=truncate))
        except InvalidRequest as error:
            raise type(error)(error.message, param=str(index)) from None
    return encoded
