"""How many actors each model gets, and how large. Pure.

On CPU an actor is one thread, or a part of one where models outnumber cores. On GPU it is what the
model's settings ask for.
"""

import math
from dataclasses import dataclass

from rewardserve.batch.settings import BulkModel
from rewardserve.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Share:
    """What one model gets of the cluster."""

    actors: int
    """Started at once."""
    most: int
    """Added up to this number while the cluster grows."""
    cpus: float
    """Of each actor."""


def share(model: BulkModel, cpus: float, gpus: float, actors: int | None) -> Share:
    """Actors of a model that may use this much: as many as fit, one at least.

    Raises SettingsError where not even one fits.
    """
    wanted = model.settings
    if wanted.gpus > 0 and gpus < wanted.gpus:
        raise SettingsError(
            f"model {model.name} asks for {wanted.gpus:g} GPUs and {gpus:g} are free for it; "
            "lower gpus, score fewer models at once, or wait for the cluster"
        )
    # A served model may be idle and set aside less than a core; one of these is always busy.
    thread = wanted.cpus if wanted.gpus > 0 else max(1.0, wanted.cpus)
    each = thread if cpus >= thread else math.floor(cpus * 100) / 100
    if each <= 0:
        raise SettingsError(f"no free CPU for model {model.name}; wait for the cluster")
    fitting = int(cpus // each)
    if wanted.gpus > 0:
        fitting = min(fitting, int(gpus // wanted.gpus))
    most = actors or fitting
    return Share(min(fitting, most), most, each)
