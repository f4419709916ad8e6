"""One run at a time in an output folder; the lock dies with the process that holds it.

A local folder is locked with flock, which the kernel releases. An object store has no such thing:
there a named actor of the Ray cluster stands for the lock, and Ray ends it with its job.
"""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import ray

from rewardserve.batch.storage import Folder
from rewardserve.errors import OutputConflict

LOCK_FILE: Final = "_lock"
NAMESPACE: Final = "rewardserve-bulk"


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the folder; raises OutputConflict while another run does. Ray must be initialised."""
    with _flock(folder.local) if folder.local else _named_actor(folder.path):
        yield


@contextmanager
def _flock(folder: Path) -> Iterator[None]:
    with (folder / LOCK_FILE).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _conflict(str(folder)) from error
        yield


@contextmanager
def _named_actor(path: str) -> Iterator[None]:
    name = hashlib.sha256(path.rstrip("/").encode()).hexdigest()
    try:
        holder = _Holder.options(name=name, namespace=NAMESPACE, num_cpus=0).remote()  # type: ignore[attr-defined]
    except ValueError as error:
        raise _conflict(path) from error
    try:
        yield
    finally:
        ray.kill(holder)


@ray.remote
class _Holder:
    """Exists as long as its owner."""


def _conflict(path: str) -> OutputConflict:
    return OutputConflict(f"another run is at work in {path}; wait for it, or end it")
