"""A transformers decoder that runs packs: the stock parts, with each layer's work joined.

The same arithmetic as the stock model (the tests hold it to that), less of it and in fewer passes:
one projection for queries, keys and values; norms, activation and residuals while the rows are in
cache; the last layer only where a head reads. Knows weights and packs, not text or scores.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from rewardserve.engine.attention import SPARE_ROWS, AttentionSettings
from rewardserve.engine.backends import Backend, PackAttention, pack_attention
from rewardserve.engine.linear import laid_out, linear
from rewardserve.engine.prefix_cache import PackStates
from rewardserve.engine.staging import staged
from rewardserve.engine.tree import Pack

CACHE_ROWS: Final = 512
"""Rows of a pack that a CPU takes through a layer's MLP at once, so that they stay in cache."""


class PackedBackbone(nn.Module):
    """A stock decoder (Llama, Gemma, Gemma-2, Mistral, Qwen2, Qwen3) that takes packs.

    Takes the stock model's weights over: the stock model is not usable afterwards.
    """

    def __init__(self, stock: Any, backend: Backend, *, batch_invariant: bool = False) -> None:
        super().__init__()
        self.backend = backend
        self.batch_invariant = batch_invariant
        self.embed_tokens = stock.embed_tokens
        self.rotary_emb = stock.rotary_emb
        self.norm = stock.norm
        # One layer at a time, so that joined weights never double the model's memory.
        for index, layer in enumerate(stock.layers):
            stock.layers[index] = PackedLayer(layer, stock.config, index)
        self.layers = stock.layers

    def lay_out(self) -> None:
        """Make the weights ready for scoring, and for nothing else."""
        for module in self.modules():
            if isinstance(module, Projection):
                module.lay_out()

    def forward(self, pack: Pack, rows: list[int], prefixes: PackStates | None = None) -> Tensor:
        """Final hidden states [len(rows), hidden size] of the pack's tokens `rows`.

        The keys and values of tokens that the pack does not compute are those of `prefixes`.
        """
        device = self.embed_tokens.weight.device
        hidden = self.embed_tokens(staged(pack.token_ids, device))
        positions = staged(pack.position_ids, device)
        cos, sin = self.rotary_emb(hidden[None], positions[None])
        attention = self._attention(pack, None, hidden)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, (cos[0], sin[0]), attention, None, prefixes)
        attention = self._attention(pack, rows, hidden)
        reads = staged(rows, device)
        hidden = self.layers[-1](hidden, (cos[0], sin[0]), attention, reads, prefixes)
        final: Tensor = self.norm(hidden)
        return final

    def _attention(self, pack: Pack, rows: list[int] | None, hidden: Tensor) -> PackAttention:
        return pack_attention(
            self.backend, pack, rows, like=hidden, batch_invariant=self.batch_invariant
        )


class PackedLayer(nn.Module):
    """One decoder layer over a pack's rows; replaces a stock layer and takes its weights over."""

    def __init__(self, stock: Any, config: Any, index: int) -> None:
        super().__init__()
        attention, mlp = stock.self_attn, stock.mlp
        self.index = index
        self.head_dim = attention.head_dim
        self.query_heads = config.num_attention_heads
        self.heads = config.num_attention_heads + 2 * config.num_key_value_heads
        self.scaling = attention.scaling
        self.settings = AttentionSettings(
            softcap=getattr(attention, "attn_logit_softcapping", None),
            window=_window(attention, config),
        )
        self.query_key_value = Projection(attention.q_proj, attention.k_proj, attention.v_proj)
        self.output = Projection(attention.o_proj)
        self.query_norm = getattr(attention, "q_norm", None)
        self.key_norm = getattr(attention, "k_norm", None)
        self.gate = Projection(mlp.gate_proj, activation=mlp.act_fn)
        self.up, self.down = Projection(mlp.up_proj), Projection(mlp.down_proj)
        self.attention_norm = stock.input_layernorm
        # Gemma-2 norms what goes into a block and what comes out; the others what goes in.
        sandwich = hasattr(stock, "pre_feedforward_layernorm")
        self.after_attention_norm = stock.post_attention_layernorm if sandwich else None
        self.mlp_norm = (
            stock.pre_feedforward_layernorm if sandwich else stock.post_attention_layernorm
        )
        self.after_mlp_norm = stock.post_feedforward_layernorm if sandwich else None

    def forward(
        self,
        hidden: Tensor,
        rotary: tuple[Tensor, Tensor],
        attention: PackAttention,
        reads: Tensor | None,
        prefixes: PackStates | None,
    ) -> Tensor:
        """The layer's output, for all rows of `hidden` or for the rows `reads` alone."""
        spare = SPARE_ROWS if prefixes is None else SPARE_ROWS + prefixes.known_tokens
        states = self._project(hidden, rotary, spare)
        if prefixes is not None:
            prefixes.exchange(self.index, states[self.query_heads :])
        query = states[: self.query_heads, : len(hidden) + SPARE_ROWS]
        key, value = states[self.query_heads :].chunk(2)
        if reads is not None:
            query = query.new_zeros(len(query), len(reads) + SPARE_ROWS, self.head_dim)
            query[:, : len(reads)] = states[: self.query_heads, reads]
            hidden = hidden[reads]
        attended = attention.attend(query, key, value, self.settings)
        output = torch.empty_like(hidden)
        for rows in _pieces(hidden):
            self._finish(hidden[rows], attended[rows], output[rows])
        return output

    def _project(self, hidden: Tensor, rotary: tuple[Tensor, Tensor], spare: int) -> Tensor:
        """Scaled and rotated queries, rotated keys, and values: [heads of all, rows, head dim].

        Behind the rows of `hidden` are so many `spare` ones of zeros.
        """
        heads = self.heads
        states = hidden.new_empty(heads, len(hidden) + spare, self.head_dim)
        states[:, len(hidden) :] = 0
        rotated = (heads + self.query_heads) // 2
        for rows in _pieces(hidden):
            projected = self.query_key_value(self.attention_norm(hidden[rows]))
            states[:, rows] = projected.view(-1, heads, self.head_dim).transpose(0, 1)
            query, key = states[: self.query_heads, rows], states[self.query_heads : rotated, rows]
            if self.query_norm is not None and self.key_norm is not None:
                query.copy_(self.query_norm(query))
                key.copy_(self.key_norm(key))
            query.mul_(self.scaling)
            _rotate(states[:rotated, rows], rotary[0][rows], rotary[1][rows])
        return states

    def _finish(self, hidden: Tensor, attended: Tensor, output: Tensor) -> None:
        """What follows attention, into `output`: output projection, residual, MLP, residual."""
        attended = self.output(attended)
        if self.after_attention_norm is not None:
            attended = self.after_attention_norm(attended)
        torch.add(hidden, attended, out=output)
        normed = self.mlp_norm(output)
        update = self.down(self.gate(normed).mul_(self.up(normed)))
        if self.after_mlp_norm is not None:
            update = self.after_mlp_norm(update)
        output.add_(update)


class Projection(nn.Module):
    """One matrix product for the stock linear layers given, their outputs side by side."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, *stock: nn.Linear, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.activation = activation
        alone = len(stock) == 1
        biases: list[Tensor] = [layer.bias.detach() for layer in stock if layer.bias is not None]
        weights: list[Tensor] = [layer.weight.detach() for layer in stock]
        self.register_buffer("weight", weights[0] if alone else torch.cat(weights))
        self.register_buffer("bias", torch.cat(biases) if biases else None)

    def forward(self, rows: Tensor) -> Tensor:
        return linear(rows, self.weight, self.bias, self.activation)

    def lay_out(self) -> None:
        """Put the weights in the order the product reads them; no other reader can."""
        self.weight = laid_out(self.weight, CACHE_ROWS)


def _window(attention: Any, config: Any) -> int | None:
    if hasattr(attention, "layer_type"):
        window: int | None = attention.sliding_window
        return window
    return config.sliding_window if config.model_type == "mistral" else None


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary embedding in place: `states` [heads, rows, dim]; `cos`, `sin` [rows, dim]."""
    half = states.shape[-1] // 2
    cos, sin = cos[:, :half], sin[:, :half]
    first, second = states[..., :half], states[..., half:]
    turned = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(turned)


def _pieces(hidden: Tensor) -> Iterator[slice]:
    size = CACHE_ROWS if hidden.device.type == "cpu" else len(hidden)
    for first in range(0, len(hidden), size):
        yield slice(first, min(first + size, len(hidden)))
