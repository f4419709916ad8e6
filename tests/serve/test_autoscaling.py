"""Replicas follow the work: the formula, Ray's view of it, and a bursty trace."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.autoscaling import LENGTH_S, START_S, simulate

from rewardserve.serving.autoscaling import BacklogPolicy, replicas_for
from rewardserve.settings import Replicas


@pytest.mark.parametrize(
    ("busy", "backlog_s", "ongoing", "wanted"),
    [
        (0.0, 0.0, 0, 0),
        (0.0, 0.0, 3, 1),
        (0.8, 0.0, 1, 1),
        (0.9, 0.0, 1, 2),
        (1.0, 60.0, 9, 4),
        (4.0, 0.0, 9, 5),
    ],
)
def test_busy_devices_and_backlog_ask_for_replicas(
    busy: float, backlog_s: float, ongoing: float, wanted: int
) -> None:
    assert replicas_for(busy=busy, backlog_s=backlog_s, ongoing=ongoing) == wanted


def test_the_policy_adds_up_what_all_replicas_report() -> None:
    reported = {"busy": {"r1": 1.0, "r2": 0.6}, "backlog_s": {"r1": 7.0, "r2": 0.0}}
    context: Any = SimpleNamespace(aggregated_metrics=reported, total_num_requests=5.0)
    assert BacklogPolicy()(context) == (math.ceil(1.6 / 0.8 + 7.0 / 30.0), {})
    silent: Any = SimpleNamespace(aggregated_metrics=None, total_num_requests=0.0)
    assert BacklogPolicy()(silent) == (0, {})


def test_a_bursty_trace_is_served_without_flapping_and_ends_at_zero() -> None:
    bounds = Replicas(min=0, max=12)
    moments = list(simulate(bounds))
    assert max(moment.replicas for moment in moments) <= bounds.max
    assert (moments[-1].replicas, moments[-1].backlog_s) == (0, 0.0)
    # The first caller wakes the model: one start-up long everybody waits, then nobody.
    awake = next(moment.at_s for moment in moments if moment.replicas)
    assert awake == 60 + START_S
    # A light load wakes few replicas, whatever gathered while the first one loaded.
    assert max(moment.target for moment in moments if moment.at_s < 300) <= 3
    # Five minutes into the large burst (detection, start-up, draining) its backlog is gone.
    assert all(moment.backlog_s < 1.0 for moment in moments if 590 <= moment.at_s < 600)
    steps = [b.target - a.target for a, b in pairwise(moments) if a.target != b.target]
    reversals = sum(a * b < 0 for a, b in pairwise(steps))
    assert reversals == 3, "up, down, up and down again, as the bursts do"
    assert len(moments) == LENGTH_S
