"""Scores shadow routes once the answer has gone, and writes what they said to the log.

Knows tasks and log lines. Knows nothing of how a shadow is scored (`routing`).
"""

import asyncio
from typing import Final

import structlog

from rewardserve.routing.evaluate import Ask, Shadowed
from rewardserve.routing.selection import record_shadow

MOST_RUNNING: Final = 64
"""Shadows that may run at once in one replica; others are left out, and the log says so."""

logger = structlog.get_logger(__name__)


class Shadows:
    """Work that nobody waits for, kept within bounds."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, shadowed: Shadowed, ask: Ask) -> None:
        """Score and record in the background."""
        if len(self._running) >= MOST_RUNNING:
            logger.warning("shadow_left_out", route=shadowed.route.name)
            return
        task = asyncio.create_task(_record(shadowed, ask))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Wait for those that run."""
        await asyncio.gather(*self._running)


async def _record(shadowed: Shadowed, ask: Ask) -> None:
    """One line with both routes' scores, prompt by prompt, and never a word of a conversation."""
    record = await record_shadow(shadowed, ask)
    logger.info(
        "shadow",
        route=record.route,
        answered=record.answered,
        shadowed=record.shadowed,
        failures=record.failures,
    )
