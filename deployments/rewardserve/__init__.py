"""A Ray Serve scoring cluster for LLM reward models.

`load_scorer` is loaded on first use, so that `import rewardserve` costs neither torch nor Ray.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewardserve.engine.scorer import load_scorer

__all__ = ["load_scorer"]


def __getattr__(name: str) -> Any:
    if name == "load_scorer":
        from rewardserve.engine.scorer import load_scorer  # noqa: PLC0415

        return load_scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
