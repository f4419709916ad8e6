"""Whether a checkpoint's chat template can be trusted to finish: tried once, in a child process.

Jinja's sandbox keeps a template from the machine, not from looping for hours or filling memory.
The child has a CPU and a memory limit, so that neither can happen where scores are computed.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

from rewardserve.errors import UnsafeCheckpoint

MAX_SOURCE_CHARS = 1_000_000
"""The longest published template is under 20,000."""
MAX_RENDERED_CHARS = 1_000_000
"""What a template may make of a few words."""
CPU_S = 2
MEMORY_BYTES = 1 << 30
_WALL_S = 20
"""Only a child that sleeps or waits for a busy machine gets here; CPU time is what is limited."""
_CHILD = Path(__file__).with_name("template_child.py")
_TURNS = [
    {"role": "user", "content": "How are you?"},
    {"role": "assistant", "content": "Well, thank you."},
]
_CONVERSATIONS = [_TURNS, _TURNS * 3, [{"role": "system", "content": "Be brief."}, *_TURNS]]


@cache
def refuse_costly_template(source: str, names: tuple[tuple[str, str], ...]) -> None:
    """Raises UnsafeCheckpoint when rendering a few words takes too long or too much.

    `names` are the special tokens that the template may print.
    """
    if len(source) > MAX_SOURCE_CHARS:
        raise UnsafeCheckpoint(f"the chat template is over {MAX_SOURCE_CHARS} characters")
    order = {
        "source": source,
        "names": dict(names),
        "conversations": _CONVERSATIONS,
        "cpu_s": CPU_S,
        "memory_bytes": MEMORY_BYTES,
    }
    try:
        child = subprocess.run(  # noqa: S603 -- our own script, by its full path
            [sys.executable, "-I", str(_CHILD)],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=_WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnsafeCheckpoint(f"the chat template did not finish in {_WALL_S} s") from None
    if child.returncode != 0:
        raise UnsafeCheckpoint(
            f"the chat template does not render a few words within {CPU_S} s and "
            f"{MEMORY_BYTES >> 20} MiB, or is no valid template"
        )
    if int(child.stdout) > MAX_RENDERED_CHARS:
        raise UnsafeCheckpoint(
            f"the chat template makes over {MAX_RENDERED_CHARS} characters of a few words"
        )
