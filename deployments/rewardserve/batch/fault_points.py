"""Named places in the commit path where a test may end the process.

Nothing happens at them unless REWARDSERVE_KILL_AT is set to `<point>:<file>`: the first process to
reach the point while the file exists removes it and dies by SIGKILL, as it would by a power cut.
"""

import os
import signal
from pathlib import Path
from typing import Final

POINTS: Final = (
    "unit.read",
    "unit.scored",
    "part.opened",
    "part.rows_written",
    "part.closed",
    "part.before_rename",
    "part.after_rename",
    "manifest.before_rename",
    "manifest.after_rename",
    "overwrite.half_removed",
    "summary.before_rename",
    "summary.after_rename",
)
"""Every step at which a run can be cut off, in the order in which a run comes to them."""

VARIABLE: Final = "REWARDSERVE_KILL_AT"


def reach(point: str) -> None:
    """Die here if a test asks for it."""
    wanted, _, fuse = os.environ.get(VARIABLE, "").partition(":")
    if wanted == point and _take(fuse):
        os.kill(os.getpid(), signal.SIGKILL)


def _take(fuse: str) -> bool:
    try:
        Path(fuse).unlink()
    except FileNotFoundError:
        return False
    return True
