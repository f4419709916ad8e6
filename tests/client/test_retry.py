"""Retries: which failures are worth another attempt, and how long to wait for it."""

import pytest

import rewardserve_client as api
from rewardserve_client._retry import LONGEST_RETRY_AFTER_S, attempts, wait_before_retry

RETRYABLE = {"Busy", "ConnectionFailed", "ModelFailed", "ServerFailed"}


def test_only_failures_that_may_pass_are_retried() -> None:
    kinds = [getattr(api, name) for name in api.__all__]
    errors = [k for k in kinds if isinstance(k, type) and issubclass(k, api.RewardClientError)]
    assert {kind.__name__ for kind in errors if wait_before_retry(kind("x"))} == RETRYABLE
    assert wait_before_retry(ValueError("x")) is False


def test_retry_after_is_obeyed_and_spread_by_at_most_a_quarter() -> None:
    waits = [wait_before_retry(api.Busy("full", retry_after_s=4.0)) for _ in range(100)]
    assert all(4.0 <= wait <= 5.0 for wait in waits)
    assert len(set(waits)) > 1


def test_a_server_that_asks_for_minutes_is_not_waited_for() -> None:
    too_long = LONGEST_RETRY_AFTER_S + 1
    assert wait_before_retry(api.Busy("full", retry_after_s=too_long)) is False


async def test_the_last_attempt_raises_what_it_got(no_waiting: None) -> None:
    made = []

    async def ask() -> None:
        async for attempt in attempts(3):
            with attempt:
                made.append(attempt.num)
                raise api.Busy("full")

    with pytest.raises(api.Busy):
        await ask()
    assert made == [1, 2, 3]
