"""The zoo's own published values: what each checkpoint scored when it was written.

With them `rewardserve verify` tells a zoo checkpoint that still scores as it did from one that
does not, as it does for a real model and the values of its card.
"""

import json
from pathlib import Path
from typing import Any, Final

from rewardserve.engine.scorer import load_scorer
from rewardserve.families.registry import MARK_FILE, registry

EXAMPLES: Final = ("sigmoid-right", "sigmoid-wrong")
TOLERANCE: Final = 0.05
"""Relative to values above 1: what bfloat16 changes, and far below what other weights change."""


def record_checks(folder: Path) -> None:
    """Add the checkpoint's scores and attributes of `EXAMPLES` to its mark file."""
    conversations = [registry().examples[name].conversation for name in EXAMPLES]
    checks: list[dict[str, Any]] = []
    for example, reward in zip(
        EXAMPLES, load_scorer(str(folder)).score(conversations), strict=True
    ):
        checks.append({"example": example, **_near(reward.score)})
        checks += [
            {"example": example, "part": "attributes", "name": name, **_near(value)}
            for name, value in (reward.attributes or {}).items()
        ]
    mark = json.loads((folder / MARK_FILE).read_text(encoding="utf-8"))
    (folder / MARK_FILE).write_text(json.dumps({**mark, "checks": checks}, indent=2) + "\n")


def _near(value: float) -> dict[str, float]:
    return {"expected": value, "tolerance": TOLERANCE * max(1.0, abs(value))}
