"""A pack without what is known computes the rest, and still has every path."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rewardserve.engine.prefixes import prefix_digests, without_known
from rewardserve.engine.spans import node_spans, readout_spans
from rewardserve.engine.tree import Pack, TokenIds, plan_packs

# Two symbols and short lengths, so that prefixes, duplicates and forks are the rule.
sequences = st.lists(
    st.lists(st.integers(0, 1), min_size=1, max_size=12).map(lambda ids: np.array(ids, np.int32)),
    min_size=1,
    max_size=12,
)


@st.composite
def known_packs(draw: st.DrawFn) -> tuple[list[TokenIds], Pack, dict[int, int]]:
    drawn = draw(sequences)
    (pack,) = plan_packs(drawn, pack_tokens=10_000, min_shared=draw(st.integers(1, 4)))
    known = {
        index: draw(st.integers(0, len(item) - 1))
        for index, item in enumerate(drawn)
        if draw(st.booleans())
    }
    return drawn, pack, known


def rows_of_tokens(
    drawn: list[TokenIds], pack: Pack, known: dict[int, int]
) -> tuple[Pack, list[int]]:
    """The smaller pack, and the token of each of its rows: computed ones, then known ones."""
    smaller, runs = without_known(pack, known)
    tokens = smaller.token_ids.tolist()
    for run in runs:
        assert run.end <= known[run.sequence]
        tokens += drawn[run.sequence][run.begin : run.end].tolist()
    return smaller, tokens


@given(known_packs())
def test_every_path_still_reads_as_its_sequence(
    case: tuple[list[TokenIds], Pack, dict[int, int]],
) -> None:
    drawn, pack, known = case
    smaller, tokens = rows_of_tokens(drawn, pack, known)
    for index, leaf in zip(smaller.sequences, smaller.leaves, strict=True):
        pieces = smaller.pieces(leaf, 0, len(drawn[index]))
        read = [tokens[row] for piece in pieces for row in range(piece.start, piece.stop)]
        assert read == drawn[index].tolist()
        assert all(left.stop != right.start for left, right in pairwise(pieces))


@given(known_packs())
def test_a_token_is_computed_unless_all_who_share_it_know_it(
    case: tuple[list[TokenIds], Pack, dict[int, int]],
) -> None:
    drawn, pack, known = case
    smaller, _ = without_known(pack, known)
    for index, leaf in zip(smaller.sequences, smaller.leaves, strict=True):
        for position in range(known.get(index, 0), len(drawn[index])):
            row = smaller.locate(leaf, position)
            assert row < len(smaller.token_ids)
            assert smaller.position_ids[row] == position
            assert smaller.token_ids[row] == drawn[index][position]


@given(known_packs())
def test_each_computed_token_is_a_query_once(
    case: tuple[list[TokenIds], Pack, dict[int, int]],
) -> None:
    _, pack, known = case
    smaller, _ = without_known(pack, known)
    spans = node_spans(smaller)
    queries = [row for span in spans for row in range(span.queries.start, span.queries.stop)]
    assert queries == list(range(len(smaller.token_ids)))
    for row, span in enumerate(readout_spans(smaller, queries)):
        assert span.keys[-1].stop == row + 1
        assert span.length == smaller.position_ids[row] + 1


def test_nothing_known_leaves_the_pack_as_it_is() -> None:
    (pack,) = plan_packs([np.arange(9, dtype=np.int32)], pack_tokens=100)
    assert without_known(pack, {}) == (pack, [])


def test_what_all_know_is_computed_by_nobody() -> None:
    prompt = np.arange(40, dtype=np.int32)
    answers = [np.append(prompt, [100 + index]).astype(np.int32) for index in range(3)]
    (pack,) = plan_packs(answers, pack_tokens=1000)
    smaller, (run,) = without_known(pack, {0: 40, 1: 40, 2: 40})
    assert (run.begin, run.end) == (0, 40)
    assert sorted(smaller.token_ids.tolist()) == [100, 101, 102]


def test_digests_agree_as_far_as_the_tokens_do() -> None:
    left = np.arange(70, dtype=np.int32)
    right = left.copy()
    right[40] = 0
    digests = [list(prefix_digests(item, 16)) for item in (left, right)]
    assert [len(item) for item in digests] == [4, 4]
    assert [a == b for a, b in zip(*digests, strict=True)] == [True, True, False, False]
