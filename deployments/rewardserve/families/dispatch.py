"""Which family a checkpoint belongs to. A new family is added to FAMILIES and nowhere else."""

from typing import Final

from rewardserve.errors import UnsafeCheckpoint, UnsupportedCheckpoint
from rewardserve.families.armorm import ARMORM
from rewardserve.families.base import Family
from rewardserve.families.checkpoint import Checkpoint
from rewardserve.families.linear import LINEAR, REGRESSION, STARLING
from rewardserve.families.mlp import MLP
from rewardserve.families.qrm import QRM
from rewardserve.families.token_logit import TOKEN_LOGIT
from rewardserve.families.urm import URM, URM_FIXED
from rewardserve.families.value_head import VALUE_HEAD

FAMILIES: Final[tuple[Family, ...]] = (
    LINEAR,
    REGRESSION,
    STARLING,
    MLP,
    VALUE_HEAD,
    TOKEN_LOGIT,
    ARMORM,
    QRM,
    URM,
    URM_FIXED,
)


def family_of(checkpoint: Checkpoint, registered: str | None = None) -> Family:
    """The one family that recognises the checkpoint; `registered` is the registry's name for it.

    Raises UnsafeCheckpoint when it needs code of its own, UnsupportedCheckpoint when no family
    knows it.
    """
    matching = [family for family in FAMILIES if family.matches(checkpoint)]
    named = [family for family in matching if family.name == registered]
    family = next(iter(named or [family for family in matching if not family.named_only]), None)
    _refuse_remote_code(checkpoint, family)
    if family is None:
        raise UnsupportedCheckpoint(
            f"{checkpoint.folder}: no native family computes {checkpoint.architecture} with these "
            f"weights; known are {', '.join(family.name for family in FAMILIES)}"
        )
    return family


def _refuse_remote_code(checkpoint: Checkpoint, family: Family | None) -> None:
    """Code beside a checkpoint is never run, so it must be code that `family` computes natively."""
    auto_map = checkpoint.config.get("auto_map") or {}
    if not isinstance(auto_map, dict):
        raise UnsafeCheckpoint(f"{checkpoint.folder}/config.json: auto_map is not an object")
    known = family.remote_classes if family is not None else ()
    for reference in auto_map.values():
        name = str(reference).rpartition(".")[2]
        if name not in known or "--" in str(reference):
            raise UnsafeCheckpoint(
                f"{checkpoint.folder}/config.json: auto_map asks for the checkpoint's own code, "
                "which is never run, and no native family computes that class"
            )
