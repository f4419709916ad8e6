"""Buckets of scores, which go below zero as Ray's own histogram cannot."""

from rewardserve.serving.metrics import SCORES, cumulative


def test_each_score_is_counted_in_every_bucket_it_fits_into() -> None:
    scores = [-100.0, -1.0, 0.0, 0.05, 3.0, 1000.0]
    counted = cumulative(scores)
    assert counted == {
        **{str(boundary): sum(score <= boundary for score in scores) for boundary in SCORES},
        "+Inf": 6,
    }
