"""The blocks of a pack's attention, against ancestry written out pair by pair."""

import numpy as np
import pytest

from rewardserve.engine.ancestry import BLOCK, padded, readout_blocks, token_blocks
from rewardserve.engine.tree import Pack, plan_packs


def visible(pack: Pack, window: int | None) -> np.ndarray:
    """[tokens, tokens]: whether a token's path holds the other, within its window."""
    tokens = len(pack.token_ids)
    node_of = np.repeat(np.arange(len(pack.nodes)), [node.end - node.start for node in pack.nodes])
    seen = np.zeros((tokens, tokens), bool)
    for row in range(tokens):
        seen[row, pack.nodes[node_of[row]].start : row + 1] = True
        parent = pack.nodes[node_of[row]].parent
        while parent >= 0:
            seen[row, pack.nodes[parent].start : pack.nodes[parent].end] = True
            parent = pack.nodes[parent].parent
    if window is not None:
        positions = pack.position_ids
        seen &= positions[:, None] - positions < window
    return seen


def forest(seed: int) -> Pack:
    random = np.random.default_rng(seed)

    def text(most: int) -> np.ndarray:
        return random.integers(1, 999, random.integers(1, most)).astype(np.int32)

    sequences = []
    for _ in range(random.integers(1, 4)):
        history = text(400)
        for _ in range(random.integers(1, 4)):
            turn = np.concatenate([history, text(200)])
            sequences += [np.concatenate([turn, text(150)]) for _ in range(random.integers(1, 4))]
    (pack,) = plan_packs(sequences, pack_tokens=100_000, min_shared=4)
    return pack


@pytest.mark.parametrize("window", [None, 50, 300, 4096])
@pytest.mark.parametrize("seed", range(8))
def test_no_visible_pair_is_skipped_and_full_blocks_are_full(seed: int, window: int | None) -> None:
    pack = forest(seed)
    blocks = token_blocks(pack, window)
    count = len(blocks.full)
    size = count * BLOCK
    seen = np.zeros((size, size), bool)
    tokens = len(pack.token_ids)
    seen[:tokens, :tokens] = visible(pack, window)
    tiles = seen.reshape(count, BLOCK, count, BLOCK).swapaxes(1, 2)
    assert not (blocks.partial & blocks.full).any()
    assert (blocks.partial | blocks.full)[tiles.any((2, 3))].all()
    assert tiles.all((2, 3))[blocks.full].all()
    if window is None:
        np.testing.assert_array_equal(blocks.full, tiles.all((2, 3)))
        np.testing.assert_array_equal(blocks.partial | blocks.full, tiles.any((2, 3)))


def test_readouts_visit_every_block() -> None:
    pack = forest(0)
    blocks = readout_blocks(pack, 130)
    assert blocks.partial.all()
    assert blocks.partial.shape == (2, len(padded(pack.position_ids)) // BLOCK)


def test_there_are_never_fewer_than_two_blocks() -> None:
    (pack,) = plan_packs([np.arange(1, 6, dtype=np.int32)], pack_tokens=64)
    assert token_blocks(pack, None).partial.tolist() == [[True, False], [False, False]]
