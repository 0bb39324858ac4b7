"""What several want at once is done once, and a failure is its own caller's."""

import asyncio

import pytest

from resolvers.single_flight import SingleFlight


async def test_those_who_want_the_same_at_once_share_one_answer() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    done = 0

    async def work() -> int:
        nonlocal done
        await asyncio.sleep(0.01)
        done += 1
        return done

    shared = await asyncio.gather(*(flights.share("a", work) for _ in range(5)))
    other = await flights.share("b", work)
    assert (shared, other, await flights.share("a", work)) == ([1] * 5, 2, 3)


async def test_who_waited_for_a_failure_tries_for_itself() -> None:
    flights: SingleFlight[str, str] = SingleFlight()

    async def fail() -> str:
        await asyncio.sleep(0.01)
        raise ValueError("another run's ceiling")

    async def succeed() -> str:
        return "mine"

    first = asyncio.create_task(flights.share("a", fail))
    await asyncio.sleep(0)
    assert await flights.share("a", succeed) == "mine"
    with pytest.raises(ValueError, match="another run's ceiling"):
        await first


async def test_a_caller_that_leaves_stops_nobody_s_work() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    begun = asyncio.Event()

    async def work() -> str:
        begun.set()
        await asyncio.sleep(0.02)
        return "paid for"

    first = asyncio.create_task(flights.share("a", work))
    await begun.wait()
    second = asyncio.create_task(flights.share("a", work))
    first.cancel()
    assert await second == "paid for"
