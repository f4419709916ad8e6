"""The prefix tree loses nothing, shares what is shared, and keeps to its budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardserve.engine.tree import Pack, TokenIds, plan_packs, shared_length

# Two symbols and short lengths, so that prefixes, duplicates and forks are the rule.
sequences = st.lists(
    st.lists(st.integers(0, 1), min_size=1, max_size=12).map(lambda ids: np.array(ids, np.int32)),
    min_size=1,
    max_size=12,
)


def ids(text: str) -> TokenIds:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


def path(pack: Pack, leaf: int, length: int) -> list[int]:
    return [int(pack.token_ids[pack.locate(leaf, position)]) for position in range(length)]


def trie_size(texts: list[list[int]]) -> int:
    """Computed tokens of a tree that shares everything: the number of distinct prefixes."""
    return len({tuple(text[: end + 1]) for text in texts for end in range(len(text))})


@given(sequences, st.integers(1, 40), st.integers(1, 5))
def test_every_sequence_reads_back_from_exactly_one_pack(
    given_sequences: list[TokenIds], pack_tokens: int, min_shared: int
) -> None:
    packs = plan_packs(given_sequences, pack_tokens=pack_tokens, min_shared=min_shared)
    found = []
    for pack in packs:
        for sequence, leaf in zip(pack.sequences, pack.leaves, strict=True):
            found.append(sequence)
            expected = given_sequences[sequence].tolist()
            assert path(pack, leaf, len(expected)) == expected
    assert sorted(found) == list(range(len(given_sequences)))


@given(sequences)
def test_with_no_minimum_each_distinct_prefix_is_computed_once(
    given_sequences: list[TokenIds],
) -> None:
    (pack,) = plan_packs(given_sequences, pack_tokens=10_000, min_shared=1)
    assert len(pack.token_ids) == trie_size([item.tolist() for item in given_sequences])


@given(sequences, st.integers(1, 40), st.integers(1, 5))
def test_nodes_tile_the_pack_and_continue_their_parents(
    given_sequences: list[TokenIds], pack_tokens: int, min_shared: int
) -> None:
    for pack in plan_packs(given_sequences, pack_tokens=pack_tokens, min_shared=min_shared):
        covered = [index for node in pack.nodes for index in range(node.start, node.end)]
        assert covered == list(range(len(pack.token_ids)))
        for index, node in enumerate(pack.nodes):
            assert node.parent < index
            above = pack.nodes[node.parent] if node.parent >= 0 else None
            assert node.depth == (above.depth + above.end - above.start if above else 0)
            positions = pack.position_ids[node.start : node.end]
            assert positions.tolist() == list(range(node.depth, node.depth + node.end - node.start))


@settings(max_examples=200)
@given(sequences, st.integers(1, 40))
def test_a_pack_exceeds_the_budget_only_when_one_sequence_does(
    given_sequences: list[TokenIds], pack_tokens: int
) -> None:
    for pack in plan_packs(given_sequences, pack_tokens=pack_tokens, min_shared=1):
        longest = max(len(given_sequences[index]) for index in pack.sequences)
        assert len(pack.token_ids) <= max(pack_tokens, longest)


def test_a_prompt_under_sixteen_responses_is_computed_once() -> None:
    prompt = ids("a prompt that is long enough to be worth a node of its own: ")
    texts = [np.concatenate([prompt, ids(f"{number:02d}")]) for number in range(16)]
    (pack,) = plan_packs(texts, pack_tokens=10_000)
    # The responses' own common first digits are below the minimum share.
    assert len(pack.token_ids) == len(prompt) + 16 * 2


def test_a_short_common_prefix_is_not_worth_a_node() -> None:
    (pack,) = plan_packs([ids("abX"), ids("abY")], pack_tokens=100)
    assert len(pack.nodes) == 2
    assert len(pack.token_ids) == 6


def test_duplicates_cost_nothing() -> None:
    text = ids("the same conversation, word for word")
    (pack,) = plan_packs([text, text, text], pack_tokens=1000)
    assert len(pack.token_ids) == len(text)
    assert pack.leaves == (0, 0, 0)


def test_no_sequences_make_no_packs() -> None:
    assert plan_packs([], pack_tokens=100) == []


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [("abc", "abd", 2), ("abc", "abc", 3), ("ab", "abc", 2), ("x", "y", 0)],
)
def test_shared_length(left: str, right: str, expected: int) -> None:
    assert shared_length(ids(left), ids(right)) == expected
