"""The parent's side of a peer's process: start, ask, stop."""

import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.measure import ROOT
from benchmarks.peers import Peer, venv
from benchmarks.peers.protocol import Settings

LOAD_TIMEOUT_S = 300.0
RUN_TIMEOUT_S = 600.0


class PeerFailed(Exception):
    """A peer's process ended or did not answer; says what it printed last."""

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)
        self.peer = peer
        self.reason = reason


class PeerProcess:
    """One peer, loading as soon as it is made. A context manager that ends the process."""

    def __init__(self, peer: Peer, settings: Settings) -> None:
        self.name = peer.name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [
                str(peer.python or sys.executable),
                *("-m", "benchmarks.peers.worker", peer.module, json.dumps(asdict(settings))),
            ],
            cwd=ROOT,
            env=environment_of(peer, settings.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ready(self) -> dict[str, str]:
        """Wait until the model is loaded; the peer's versions. Raises PeerFailed."""
        loaded: dict[str, str] = self._answer(LOAD_TIMEOUT_S)["versions"]
        return loaded

    def score(self, batch: Path) -> dict[str, Any]:
        """One timed run over a batch's file. Raises PeerFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{batch}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(self.name, self._last_words()) from None
        return self._answer(RUN_TIMEOUT_S)

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise PeerFailed(self.name, f"no answer in {timeout_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(self.name, self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        return lines[-1][:300] if lines else f"ended with status {self._process.returncode}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


def environment_of(peer: Peer, threads: int) -> dict[str, str]:
    """The environment variables of a peer's process."""
    variables = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    home = venv(peer.environment) if peer.environment else ROOT
    preload = [str(home / library) for library in peer.preload if (home / library).exists()]
    if preload:
        variables["LD_PRELOAD"] = ":".join(preload)
    return os.environ | variables | dict(peer.variables)
