"""A transformers decoder that runs packs: the stock parts, with each layer's work joined.

The same arithmetic as the stock model (the tests hold it to that), less of it and in fewer passes:
one projection for queries, keys and values; norms, activation and residuals while the rows are in
cache; the last layer only where a head reads. Knows weights and packs, not text or scores.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from transformers import PreTrainedModel

from rewardserve.engine.attention import AttentionSettings, Spans, node_spans, readout_spans
from rewardserve.engine.tree import Pack

ONEDNN_LINEAR: Final = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - it has no other name

CACHE_ROWS: Final = 512
"""Rows of a pack that a CPU takes through a layer's MLP at once, so that they stay in cache."""


class PackedBackbone(nn.Module):
    """A stock decoder (Llama, Gemma, Gemma-2, Mistral, Qwen2, Qwen3) that takes packs.

    Takes the stock model's weights over: the stock model is not usable afterwards.
    """

    def __init__(self, stock: PreTrainedModel) -> None:
        super().__init__()
        self.embed_tokens = stock.embed_tokens
        self.rotary_emb = stock.rotary_emb
        self.norm = stock.norm
        # One layer at a time, so that joined weights never double the model's memory.
        for index, layer in enumerate(stock.layers):
            stock.layers[index] = PackedLayer(layer, stock.config)
        self.layers = stock.layers

    def forward(self, pack: Pack, rows: list[int]) -> Tensor:
        """Final hidden states [len(rows), hidden size] of the pack's tokens `rows`."""
        device = self.embed_tokens.weight.device
        hidden = self.embed_tokens(torch.from_numpy(pack.token_ids).to(device, torch.long))
        positions = torch.from_numpy(pack.position_ids).to(device, torch.long)
        cos, sin = self.rotary_emb(hidden[None], positions[None])
        spans = node_spans(pack, device)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, (cos[0], sin[0]), spans, None)
        reads = torch.tensor(rows, device=device)
        spans = readout_spans(pack, rows, device)
        return self.norm(self.layers[-1](hidden, (cos[0], sin[0]), spans, reads))  # type: ignore[no-any-return]


class PackedLayer(nn.Module):
    """One decoder layer over a pack's rows; replaces a stock layer and takes its weights over."""

    def __init__(self, stock: nn.Module, config: Any) -> None:
        super().__init__()
        attention, mlp = stock.self_attn, stock.mlp
        self.head_dim = attention.head_dim
        self.query_heads = config.num_attention_heads
        self.settings = AttentionSettings(
            scaling=attention.scaling,
            softcap=getattr(attention, "attn_logit_softcapping", None),
            window=_window(attention, config),
        )
        self.query_key_value = Projection(attention.q_proj, attention.k_proj, attention.v_proj)
        self.output = Projection(attention.o_proj)
        self.query_norm = getattr(attention, "q_norm", None)
        self.key_norm = getattr(attention, "k_norm", None)
        self.gate, self.up = Projection(mlp.gate_proj), Projection(mlp.up_proj)
        self.down = Projection(mlp.down_proj)
        self.activation = mlp.act_fn
        self.attention_norm = stock.input_layernorm
        # Gemma-2 norms what goes into a block and what comes out; the others what goes in.
        sandwich = hasattr(stock, "pre_feedforward_layernorm")
        self.after_attention_norm = stock.post_attention_layernorm if sandwich else None
        self.mlp_norm = (
            stock.pre_feedforward_layernorm if sandwich else stock.post_attention_layernorm
        )
        self.after_mlp_norm = stock.post_feedforward_layernorm if sandwich else None

    def forward(
        self, hidden: Tensor, rotary: tuple[Tensor, Tensor], spans: Spans, reads: Tensor | None
    ) -> Tensor:
        """The layer's output, for all rows of `hidden` or for the rows `reads` alone."""
        states = self._project(hidden, rotary)
        query, rest = states.split([self.query_heads, states.shape[1] - self.query_heads], dim=1)
        key, value = rest.chunk(2, dim=1)
        if reads is not None:
            query, hidden = query[:, :, reads], hidden[reads]
        attended = spans.attend(query, key, value, self.settings)
        output = torch.empty_like(hidden)
        for rows in _pieces(hidden):
            output[rows] = self._finish(hidden[rows], attended[rows])
        return output

    def _project(self, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Rotated queries and keys, and values: [1, heads of all three, rows, head dim]."""
        heads = self.query_key_value.weight.shape[0] // self.head_dim
        states = hidden.new_empty(hidden.shape[0], heads, self.head_dim)
        rotated = (heads + self.query_heads) // 2
        for rows in _pieces(hidden):
            projected = self.query_key_value(self.attention_norm(hidden[rows]))
            states[rows] = projected.view(-1, heads, self.head_dim)
            if self.query_norm is not None and self.key_norm is not None:
                query, key = (
                    states[rows, : self.query_heads],
                    states[rows, self.query_heads : rotated],
                )
                query.copy_(self.query_norm(query))
                key.copy_(self.key_norm(key))
            _rotate(states[rows, :rotated], rotary[0][rows], rotary[1][rows])
        return states.transpose(0, 1)[None]

    def _finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """What follows attention: output projection, residual, MLP, residual."""
        attended = self.output(attended)
        if self.after_attention_norm is not None:
            attended = self.after_attention_norm(attended)
        hidden = hidden + attended
        normed = self.mlp_norm(hidden)
        gated = self.activation(self.gate(normed)).mul_(self.up(normed))
        update = self.down(gated)
        if self.after_mlp_norm is not None:
            update = self.after_mlp_norm(update)
        return hidden.add_(update)


class Projection(nn.Module):
    """One matrix product for the stock linear layers given, their outputs side by side."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, *stock: nn.Linear) -> None:
        super().__init__()
        alone = len(stock) == 1
        biases = [layer.bias for layer in stock if layer.bias is not None]
        weights = [layer.weight.detach() for layer in stock]
        self.register_buffer("weight", weights[0] if alone else torch.cat(weights))
        self.register_buffer("bias", torch.cat(biases).detach() if biases else None)

    def forward(self, rows: Tensor) -> Tensor:
        if rows.device.type == "cpu":
            # oneDNN's product: on CPUs whose AVX-512 the default library leaves unused, twice
            # its rate in float32 (benchmarks/README.md), and the same rate elsewhere.
            return ONEDNN_LINEAR(rows, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]
        return F.linear(rows, self.weight, self.bias)


def _window(attention: nn.Module, config: Any) -> int | None:
    if hasattr(attention, "layer_type"):
        window: int | None = attention.sliding_window
        return window
    return config.sliding_window if config.model_type == "mistral" else None


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary embedding in place: `states` [rows, heads, dim]; `cos`, `sin` [rows, dim]."""
    half = states.shape[-1] // 2
    cos, sin = cos[:, None, :half], sin[:, None, :half]
    first, second = states[..., :half], states[..., half:]
    turned = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(turned)


def _pieces(hidden: Tensor) -> Iterator[slice]:
    size = CACHE_ROWS if hidden.device.type == "cpu" else len(hidden)
    for first in range(0, len(hidden), size):
        yield slice(first, first + size)
