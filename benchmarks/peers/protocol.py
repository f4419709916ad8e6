"""What a worker is started with, is asked, and answers. Standard library alone, so that it can be
imported in any peer's environment."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Settings:
    """How a peer loads the model."""

    folder: str
    """The checkpoint."""
    dtype: str
    threads: int
    way: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Conversations to score in one call, rendered and tokenised before the clock starts."""

    sequences: list[list[int]]
    pairs: list[tuple[str, str]]
    """The same as text, prompt and response apart and without the BOS token, for a peer that
    takes nothing but pairs of text."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run gave."""

    scores: list[float]
    computed_tokens: int
    """Positions that went through the layers, padding included."""


class LoadedPeer(Protocol):
    """A peer with its model loaded."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions whose versions are put on record."""

    def forget(self) -> None:
        """Drop what an earlier run left behind (a prefix cache); not timed."""

    def score(self, batch: Batch) -> Outcome:
        """Raw scores in order; timed."""
