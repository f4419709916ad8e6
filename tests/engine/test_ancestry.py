"""The blocks of a pack's attention, against ancestry written out pair by pair."""

import numpy as np
import pytest

from rewardserve.engine.ancestry import BLOCK, Ancestry, padded
from rewardserve.engine.prefixes import without_known
from rewardserve.engine.tree import Pack, plan_packs


def visible(pack: Pack, window: int | None) -> np.ndarray:
    """[computed tokens, tokens]: whether a token's path holds the other, within its window."""
    computed, tokens = len(pack.token_ids), max(node.end for node in pack.nodes)
    seen = np.zeros((computed, tokens), bool)
    positions = np.zeros(tokens, int)
    for node in pack.nodes:
        positions[node.start : node.end] = node.depth + np.arange(node.end - node.start)
        for row in range(node.start, min(node.end, computed)):
            seen[row, node.start : row + 1] = True
            parent = node.parent
            while parent >= 0:
                seen[row, pack.nodes[parent].start : pack.nodes[parent].end] = True
                parent = pack.nodes[parent].parent
    if window is not None:
        seen &= positions[:computed, None] - positions < window
    return seen


def forest(seed: int, *, known: bool = False) -> Pack:
    """Texts with histories in common; where `known`, of each some first tokens are."""
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
    if known:
        lengths = {index: len(sequence) for index, sequence in enumerate(sequences)}
        ends = {index: int(random.integers(0, length)) for index, length in lengths.items()}
        pack, _ = without_known(pack, ends | {0: lengths[0] - 1})
    return pack


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("window", [None, 50, 300, 4096])
@pytest.mark.parametrize("seed", range(8))
def test_no_visible_pair_is_skipped_and_full_blocks_are_full(
    seed: int, window: int | None, known: bool
) -> None:
    pack = forest(seed, known=known)
    blocks = Ancestry(pack).token_blocks(window)
    queries, keys = blocks.full.shape
    computed = len(pack.token_ids)
    expected = visible(pack, window)
    seen = np.zeros((queries * BLOCK, keys * BLOCK), bool)
    seen[:computed, : expected.shape[1]] = expected
    tiles = seen.reshape(queries, BLOCK, keys, BLOCK).swapaxes(1, 2)
    assert not (blocks.partial & blocks.full).any()
    assert (blocks.partial | blocks.full)[tiles.any((2, 3))].all()
    assert tiles.all((2, 3))[blocks.full].all()
    if window is None:
        np.testing.assert_array_equal(blocks.full, tiles.all((2, 3)))
        np.testing.assert_array_equal(blocks.partial | blocks.full, tiles.any((2, 3)))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_rows_that_see_a_token_are_neighbours(seed: int, known: bool) -> None:
    pack = forest(seed, known=known)
    seen = Ancestry(pack)
    rows = np.arange(len(pack.token_ids))[:, None]
    np.testing.assert_array_equal((seen.begins <= rows) & (rows < seen.ends), visible(pack, None))
    np.testing.assert_array_equal(seen.positions[: len(rows)], pack.position_ids)


def test_some_of_the_forests_have_known_tokens_in_the_middle_of_paths() -> None:
    packs = [forest(seed, known=True) for seed in range(8)]
    below = [
        node.parent >= 0 and pack.nodes[node.parent].start < len(pack.token_ids) <= node.start
        for pack in packs
        for node in pack.nodes
    ]
    assert any(below)


def test_readouts_visit_every_block() -> None:
    pack = forest(0)
    blocks = Ancestry(pack).readout_blocks(130)
    assert blocks.partial.all()
    assert blocks.partial.shape == (2, len(padded(pack.position_ids)) // BLOCK)


def test_there_are_never_fewer_than_two_blocks() -> None:
    (pack,) = plan_packs([np.arange(1, 6, dtype=np.int32)], pack_tokens=64)
    assert Ancestry(pack).token_blocks(None).partial.tolist() == [[True, False], [False, False]]
