"""Between host and device without waiting: what goes in, and when results are read.

Every array of a pack goes to the device through `staged`, and nothing else of a forward waits for
the device, so that the host builds and launches the next pack while the device is at this one.
Knows devices and streams. Knows nothing of packs, models or scores.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

Item = TypeVar("Item")


def staged(values: ArrayLike, device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """`values` as a tensor on `device`, in the order of the work launched there before."""
    host = torch.as_tensor(values).to(dtype)
    if device.type != "cuda":
        return host.to(device)
    # torch hands a pinned buffer out again only once the copies from it have finished.
    return host.pin_memory().to(device, non_blocking=True)


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each once the one after it has been made."""
    held: list[Item] = []
    for item in items:
        yield from held
        held = [item]
    yield from held


class ReadStream:
    """A stream of its own for reading results, so that one pack's wait for no later pack.

    On a CPU, where work is done when it is launched, it does nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _short_work(device) if device.type == "cuda" else None

    def mark(self) -> torch.cuda.Event | None:
        """The point that the work launched on the device so far ends at."""
        if self._stream is None:
            return None
        event: torch.cuda.Event = torch.cuda.current_stream(self._device).record_event()
        return event

    @contextmanager
    def after(self, mark: torch.cuda.Event | None) -> Iterator[None]:
        """A block whose work on the device waits for `mark`, and for nothing launched since.

        Tensors of other streams that it uses must be kept until it has read its results.
        """
        if self._stream is None or mark is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(mark)
            yield


def _short_work(device: torch.device) -> torch.cuda.Stream:
    # First in line: the host waits for what it runs.
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
