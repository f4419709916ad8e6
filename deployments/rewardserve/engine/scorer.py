"""Conversations to rewards, in process: encode, pack, one forward a pack, read, head.

Knows models and packs. Knows nothing of Ray, HTTP, queues or files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rewardserve.engine.allocator import reuse_freed_memory
from rewardserve.engine.backbone import PackedBackbone
from rewardserve.engine.backends import Backend, available_backends
from rewardserve.engine.budget import cache_tokens, pack_budget
from rewardserve.engine.linear import keeps_bits
from rewardserve.engine.norms import fuse_norms
from rewardserve.engine.prefix_cache import PrefixCache
from rewardserve.engine.quantize import quantize as quantize_weights
from rewardserve.engine.staging import ReadStream, one_ahead
from rewardserve.engine.tree import Pack, plan_packs
from rewardserve.errors import ModelFailed
from rewardserve.families.base import Encoded, RewardParts
from rewardserve.families.loading import LoadedModel, load_model
from rewardserve.families.placement import follow
from rewardserve.settings import Dtype, Quantization
from rewardserve_client import Conversation, Reward


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """The rewards of one batch, in its order, and what they cost."""

    rewards: list[Reward]
    tokens: int
    """Before prefix sharing."""
    computed_tokens: int
    """After prefix sharing."""


@dataclass(frozen=True, slots=True)
class _Launched:
    """A pack whose forward is in line on the device, or done."""

    pack: Pack
    reads: Tensor
    """Hidden states for the head [conversations, reads, hidden size]."""
    done: torch.cuda.Event | None
    """When they are computed."""


class Scorer:
    """One reward model, ready to score.

    `encode` may be called from many threads; `score_encoded` and `score` from one at a time.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        pack_tokens: int | None = None,
        batch_invariant: bool = False,
        attention: Backend | None = None,
        prefix_cache_gib: float | None = 0.0,
    ) -> None:
        self.name = model.name
        self.source = model.source
        self.revision = model.revision
        self.family = model.family
        self.max_tokens = model.max_tokens
        self.attention = attention or available_backends(model.device, model.dtype)[0]
        self._text = model.text
        self._head = model.head
        self._backbone = PackedBackbone(
            model.backbone, self.attention, batch_invariant=batch_invariant
        )
        if model.quantize is not None:
            quantize_weights(self._backbone, model.quantize)
        self._backbone.lay_out()
        fuse_norms(self._backbone)
        follow(self._backbone, model.placement)
        self._batch_invariant = batch_invariant
        # Where products do not keep a row's bits beside other rows, a pack of one does.
        self._alone = batch_invariant and not keeps_bits(model.device, model.dtype)
        if self._alone:
            prefix_cache_gib = 0.0
        cached = cache_tokens(self._backbone, prefix_cache_gib)
        self._prefixes = PrefixCache(cached)
        self.pack_tokens = pack_tokens or pack_budget(self._backbone, self.max_tokens, cached)
        self._reading = ReadStream(self._backbone.norm.weight.device)
        if model.device.type == "cpu":
            reuse_freed_memory()

    def encode(
        self, item: Conversation | str | Sequence[int], *, truncate: bool = False
    ) -> Encoded:
        """Token ids and readouts of a conversation, of text already rendered, or of token ids.

        Raises InvalidConversation, and ConversationTooLong unless `truncate`.
        """
        token_ids, truncated = self._text.encode(
            item, truncate=truncate, max_tokens=self.max_tokens
        )
        return Encoded(token_ids, self._head.readouts(token_ids), truncated)

    def score(
        self, conversations: Iterable[Conversation], *, truncate: bool = False
    ) -> list[Reward]:
        """One reward for each conversation, in order.

        Raises what `encode` raises, and NonFiniteScore.
        """
        encoded = [self.encode(item, truncate=truncate) for item in conversations]
        return self.score_encoded(encoded).rewards

    @torch.inference_mode()
    def score_encoded(self, batch: Sequence[Encoded]) -> ScoredBatch:
        """Rewards for what `encode` gave, in order.

        Raises NonFiniteScore, and ModelFailed when the device has too little memory. Where a pack
        is too large for the device's memory, this and all later packs are half as large.
        """
        try:
            return self._score_or_forget(batch)
        except torch.OutOfMemoryError:
            self.pack_tokens = max(1, self.pack_tokens // 2)
        try:
            return self._score_or_forget(batch)
        except torch.OutOfMemoryError as error:
            raise ModelFailed(
                f"{self.name} ran out of memory twice, the second time with packs of "
                f"{self.pack_tokens} tokens; lower pack_tokens or max_tokens"
            ) from error

    def forget_prefixes(self) -> None:
        """Compute every prefix anew that was computed before now."""
        self._prefixes.clear()

    def _score_or_forget(self, batch: Sequence[Encoded]) -> ScoredBatch:
        try:
            return self._score_packs(batch)
        except Exception:
            # What is kept may be what failed.
            self._prefixes.clear()
            raise

    def _score_packs(self, batch: Sequence[Encoded]) -> ScoredBatch:
        parts: dict[int, RewardParts] = {}
        computed = 0
        sequences = [item.token_ids for item in batch]
        packs = plan_packs(sequences, pack_tokens=1 if self._alone else self.pack_tokens)
        # While a GPU is at one pack, the next one's work is put in line behind it.
        for launched in one_ahead(self._launch(pack, batch) for pack in packs):
            computed += len(launched.pack.token_ids)
            parts.update(zip(launched.pack.sequences, self._read(launched), strict=True))
        return ScoredBatch(
            rewards=[self._reward(item, parts[index]) for index, item in enumerate(batch)],
            tokens=sum(len(item) for item in sequences),
            computed_tokens=computed,
        )

    def _launch(self, pack: Pack, batch: Sequence[Encoded]) -> _Launched:
        sequences = {index: batch[index].token_ids for index in pack.sequences}
        # What a head reads is computed.
        limits = {index: min(batch[index].readouts) for index in pack.sequences}
        prefixes = self._prefixes.states(pack, sequences, limits)
        pack = prefixes.pack
        rows = [
            pack.locate(leaf, position)
            for sequence, leaf in zip(pack.sequences, pack.leaves, strict=True)
            for position in batch[sequence].readouts
        ]
        hidden = self._backbone(pack, rows, prefixes).float()
        self._prefixes.keep(prefixes, sequences)
        reads = hidden.view(-1, self._head.reads, hidden.shape[-1])
        return _Launched(pack, reads, self._reading.mark())

    def _read(self, launched: _Launched) -> list[RewardParts]:
        with self._reading.after(launched.done):
            if self._batch_invariant:
                alone = [read[None].clone() for read in launched.reads]
                return [parts for read in alone for parts in self._head(read)]
            together: list[RewardParts] = self._head(launched.reads)
            return together

    def _reward(self, item: Encoded, parts: RewardParts) -> Reward:
        return Reward(
            score=parts.score,
            model=self.name,
            revision=self.revision,
            tokens=len(item.token_ids),
            truncated=item.truncated,
            attributes=parts.attributes,
            weights=parts.weights,
            uncertainty=parts.uncertainty,
        )


def load_scorer(  # noqa: PLR0913 - one argument per setting
    source: str,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    name: str | None = None,
    max_tokens: int | None = None,
    pack_tokens: int | None = None,
    batch_invariant: bool = False,
    quantize: Quantization | None = None,
    prefix_cache_gib: float | None = 0.0,
) -> Scorer:
    """The scorer of a hub id or local folder.

    Packs have `pack_tokens` computed tokens; left out, what fits the device's free memory.
    With `batch_invariant` a conversation's reward has the same bits whatever shares its packs, for
    some speed (benchmarks/README.md). `prefix_cache_gib` of the device's memory (None for what is
    fit there) keep what was computed last, so that a prompt that returns in a later call is not
    computed again.

    Raises CheckpointError (unsupported, unsafe, or with tensors missing or unexpected), and
    SettingsError when the device's memory is too small.
    """
    model = load_model(
        source,
        revision=revision,
        device=device,
        dtype=dtype,
        name=name,
        max_tokens=max_tokens,
        quantize=quantize,
    )
    return Scorer(
        model,
        pack_tokens=pack_tokens,
        batch_invariant=batch_invariant,
        prefix_cache_gib=prefix_cache_gib,
    )
