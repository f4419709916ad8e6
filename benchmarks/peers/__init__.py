"""The contenders of `benchmarks.engine`, each in a process of its own.

A process of its own gives each its own threads, memory allocator and packages: what one of them
sets can neither help nor hurt another. Importable without torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import ROOT


@dataclass(frozen=True, slots=True)
class Peer:
    """Who takes part, and what it needs to start."""

    name: str
    module: str
    """Under `benchmarks.peers`; its `load(settings)` gives something that scores."""
    way: str = ""
    """Which of the ways of scoring that the module knows."""
    environment: str | None = None
    """Its own virtual environment, made by `python -m benchmarks.install NAME`."""
    variables: tuple[tuple[str, str], ...] = ()
    """Environment variables it has to start with."""
    preload: tuple[str, ...] = ()
    """Libraries its authors say to preload, where its environment has them."""

    @property
    def python(self) -> Path | None:
        """Its interpreter; None for this one."""
        return None if self.environment is None else venv(self.environment) / "bin" / "python"

    def missing(self) -> str | None:
        """Why it cannot take part, or None."""
        if self.python is None or self.python.exists():
            return None
        return f"not installed: python -m benchmarks.install {self.environment}"


def venv(environment: str) -> Path:
    """Where the virtual environment of that name is, or would be."""
    return ROOT / f".venv-{environment}"


LINEAR: Final = Peer("F.linear alone", "matmul", "F.linear")
ONEDNN: Final = Peer("oneDNN linear alone", "matmul", "oneDNN")
CEILINGS: Final = {LINEAR.name: "of F.linear", ONEDNN.name: "of oneDNN"}
"""Not peers but bounds: bare matrix products, and what a share of their rate is called."""

LOOP: Final = Peer("card's loop", "batches", "one at a time")
OURS: Final = Peer("rewardserve", "ours")
VLLM: Final = Peer(
    "vLLM",
    "vllm_offline",
    "32",
    environment="vllm",
    variables=(
        ("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        ("VLLM_CPU_KVCACHE_SPACE", "2"),
        ("VLLM_LOGGING_LEVEL", "WARNING"),
        ("VLLM_NO_USAGE_STATS", "1"),
    ),
    preload=("lib/libiomp5.so", "lib/libtcmalloc_minimal.so.4"),
)

PEERS: Final = (
    LINEAR,
    ONEDNN,
    LOOP,
    Peer("padded batches of 8", "batches", "in arrival order"),
    Peer("length-sorted batches of 8", "batches", "sorted by length"),
    Peer("CrossEncoder", "cross_encoder", environment="sentence-transformers"),
    VLLM,
    OURS,
    Peer("rewardserve, batch_invariant", "ours", "batch_invariant"),
)
