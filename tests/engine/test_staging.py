"""Staging: what goes to a device, and when its results are read."""

from collections.abc import Iterator

import numpy as np
import torch

from rewardserve.engine.staging import ReadStream, one_ahead, staged

CPU = torch.device("cpu")


def test_lists_and_arrays_become_indices() -> None:
    for values in ([3, 1, 2], np.array([3, 1, 2], np.int32)):
        indices = staged(values, CPU)
        assert indices.dtype == torch.int64
        assert indices.tolist() == [3, 1, 2]
    assert staged([1], CPU, torch.int32).dtype == torch.int32


def test_each_item_is_read_once_the_next_is_made() -> None:
    events = []

    def made() -> Iterator[int]:
        for item in range(3):
            events.append(f"made {item}")
            yield item

    events.extend(f"read {item}" for item in one_ahead(made()))
    assert events == ["made 0", "made 1", "read 0", "made 2", "read 1", "read 2"]
    assert list(one_ahead([])) == []


def test_reading_on_a_cpu_waits_for_nothing() -> None:
    reading = ReadStream(CPU)
    mark = reading.mark()
    assert mark is None
    with reading.after(mark):
        assert torch.ones(2).sum().item() == 2
