"""The process of one peer: loads its model once, then scores a batch for every line it is sent.

`python -m benchmarks.peers.worker MODULE SETTINGS` with the settings as JSON. Each line on standard
input is the path of a batch's JSON; each answer is one line of JSON on standard output. Anything
the peer prints itself goes to standard error.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TextIO

from benchmarks.measure import timed, versions
from benchmarks.peers.protocol import Batch, LoadedPeer, Settings


def main() -> None:
    """Serve until standard input closes."""
    module, settings = sys.argv[1:]
    answers = _private_output()
    for answer in serve(module, Settings(**json.loads(settings)), sys.stdin):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _private_output() -> TextIO:
    """Standard output for answers alone: everybody else's is standard error from here on."""
    private = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return private


def serve(module: str, settings: Settings, lines: TextIO) -> Iterator[dict[str, object]]:
    """First the versions, once loaded; then one answer for each line."""
    peer: LoadedPeer = import_module(f"benchmarks.peers.{module}").load(settings)
    yield {"versions": versions(peer.packages)}
    for line in lines:
        yield run(peer, Batch(**json.loads(Path(line.strip()).read_text())))


def run(peer: LoadedPeer, batch: Batch) -> dict[str, object]:
    """One timed run."""
    peer.forget()
    outcome, sample = timed(lambda: peer.score(batch))
    return asdict(outcome) | asdict(sample)


if __name__ == "__main__":
    main()
