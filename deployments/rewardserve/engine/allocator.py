"""The C allocator's thresholds: a forward's buffers are used again, not given back and faulted in.

By default glibc returns what a layer frees to the system and the next layer pays for each page
anew: 3 to 6 % of a forward on a CPU, most of all off the main thread. Knows nothing of tensors.
"""

import ctypes
import sys
from typing import Final

# Of glibc's malloc.h.
_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_THRESHOLD: Final = -3

KEPT_BYTES: Final = 2**30
"""Freed memory that the process keeps, and the size from which a buffer is mapped for itself."""
OLDER_MAPPED_BYTES: Final = 2**25
"""The most that older glibcs take for the latter."""
STEP_BYTES: Final = 2**26
"""What the process asks of the system for at once."""


def reuse_freed_memory() -> None:
    """For the whole process, from now on; nothing where the C library is not glibc."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_TOP_PAD, STEP_BYTES)
    if not mallopt(_MMAP_THRESHOLD, KEPT_BYTES):
        mallopt(_MMAP_THRESHOLD, OLDER_MAPPED_BYTES)
