"""flex_attention is compiled once for each kind of layer, whatever the packs, and stays exact.

The compiler's front end, which decides what is compiled anew, is the same for every device.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.nn.attention.flex_attention import flex_attention

from rewardserve.engine import flex
from rewardserve.engine.attention import SPARE_ROWS, AttentionSettings, SpanAttention
from rewardserve.engine.flex import FlexAttention
from rewardserve.engine.prefixes import without_known
from rewardserve.engine.spans import node_spans
from rewardserve.engine.tree import Pack, plan_packs

CPU = torch.device("cpu")
KINDS = [AttentionSettings(), AttentionSettings(20.0, 64), AttentionSettings(20.0)]
SHAPES = [(5, 1), (130, 3), (64, 70), (300, 4), (256, 5), (900, 2)]
"""Tokens of a prompt, and answers to it; more of them than a block, and fewer."""


@pytest.fixture
def compile_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    torch._dynamo.reset()

    def use(backend: Any) -> None:
        run: Any = torch.compile(flex_attention, dynamic=True, backend=backend)
        monkeypatch.setattr(flex, "flex_attention", run)

    yield use
    torch._dynamo.reset()


def packs() -> Iterator[tuple[Pack, list[int]]]:
    random = np.random.default_rng(2)
    for prompt_tokens, answers in SHAPES:
        prompt = random.integers(1, 99, prompt_tokens)
        lengths = random.integers(2, 60, answers)
        sequences = [
            np.concatenate([prompt, random.integers(1, 99, length)]).astype(np.int32)
            for length in lengths
        ]
        (whole,) = plan_packs(sequences, pack_tokens=10**6)
        for known in (0, prompt_tokens // 2):
            pack, _ = without_known(whole, dict.fromkeys(range(answers), known))
            yield (
                pack,
                [
                    pack.locate(leaf, len(sequences[sequence]) - 1)
                    for sequence, leaf in zip(pack.sequences, pack.leaves, strict=True)
                ],
            )


def states(heads: int, tokens: int) -> Tensor:
    return torch.randn(heads, tokens + SPARE_ROWS, 16)


def check_all() -> None:
    torch.manual_seed(0)
    for pack, rows in packs():
        tokens, keys = len(pack.token_ids), max(node.end for node in pack.nodes)
        everywhere, readouts = FlexAttention(pack, None, CPU), FlexAttention(pack, rows, CPU)
        for how in KINDS:
            query, key, value = states(4, tokens), states(2, keys), states(2, keys)
            expected = SpanAttention(node_spans(pack), torch.float32, CPU).attend(
                query, key, value, how
            )
            spare = torch.zeros(4, SPARE_ROWS, 16)
            read = torch.cat([query[:, rows], spare], dim=1)
            attended = everywhere.attend(query, key, value, how)
            torch.testing.assert_close(attended, expected, atol=5e-5, rtol=1e-4)
            attended = readouts.attend(read, key, value, how)
            torch.testing.assert_close(attended, expected[rows], atol=5e-5, rtol=1e-4)


@torch.inference_mode()
def test_packs_of_all_shapes_share_one_kernel_for_each_kind_of_layer(
    compile_with: Callable[[Any], None],
) -> None:
    compiled = []

    def count(graph: GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        compiled.append(graph)
        taken = [
            node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"
        ]
        states = [value for value in taken if isinstance(value, Tensor) and value.dim() == 4]
        floats = [value for value in states if value.is_floating_point()]
        # Or the kernel could not know that rows are aligned, and would read them number by number.
        assert len(floats) == 3
        assert all(value.is_contiguous() for value in floats)
        return graph.forward

    compile_with(count)
    check_all()
    assert len(compiled) == len(KINDS)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@torch.inference_mode()
def test_the_compiled_kernel_is_exact(compile_with: Callable[[Any], None]) -> None:
    compile_with("inductor")
    check_all()
