"""Pace: requests in flight follow what the server can take."""

import asyncio

import pytest

from rewardserve_client import Busy
from rewardserve_client._pace import Pace


async def answered(pace: Pace) -> None:
    async with pace.turn():
        await asyncio.sleep(0)


async def refused(pace: Pace, together: int) -> None:
    """`together` requests in flight at the same time, all refused."""
    all_in = asyncio.Barrier(together)

    async def one() -> None:
        async with pace.turn():
            await all_in.wait()
            raise Busy("full")

    results = await asyncio.gather(*(one() for _ in range(together)), return_exceptions=True)
    assert all(isinstance(result, Busy) for result in results)


async def test_it_grows_to_the_most_allowed_while_the_server_keeps_up() -> None:
    pace = Pace(16)
    assert pace.limit == 4
    for _ in range(30):
        await answered(pace)
    assert pace.limit == 16


async def test_refusals_to_requests_in_flight_together_halve_it_once() -> None:
    pace = Pace(16)
    for _ in range(12):
        await answered(pace)
    await refused(pace, together=16)
    assert pace.limit == 8


async def test_three_refusals_in_a_row_bring_the_first_pace_down_to_one() -> None:
    pace = Pace(32)
    for together in (4, 2, 1):
        await refused(pace, together)
    assert pace.limit == 1


async def test_after_a_refusal_it_grows_by_one_in_eight_rounds() -> None:
    pace = Pace(32)
    await refused(pace, together=4)
    for _ in range(8 * 2):
        await answered(pace)
    assert pace.limit == 2
    for _ in range(8):
        await answered(pace)
    assert pace.limit == 3


async def test_no_more_are_in_flight_than_the_limit() -> None:
    pace, inside, seen = Pace(3), 0, []

    async def one() -> None:
        nonlocal inside
        async with pace.turn():
            inside += 1
            seen.append(inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(50)))
    assert max(seen) == 3


async def test_a_cancelled_waiter_leaves_its_place_to_the_next() -> None:
    pace = Pace(1)
    async with pace.turn():
        waiting = [asyncio.create_task(answered(pace)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    await asyncio.wait_for(waiting[1], timeout=5)


async def test_a_failure_of_the_request_frees_its_place() -> None:
    pace = Pace(1)
    with pytest.raises(ValueError, match="broken"):
        async with pace.turn():
            raise ValueError("broken")
    await asyncio.wait_for(answered(pace), timeout=5)
