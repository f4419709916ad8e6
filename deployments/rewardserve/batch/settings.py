"""What one bulk run is asked to do. Everything here is part of the output's fingerprint."""

from typing import Annotated

from pydantic import Field, model_validator

from rewardserve.batch.units import UNIT_ROWS
from rewardserve.settings import ModelSettings, Settings


class BulkModel(Settings):
    """A model and the name that its columns carry."""

    name: str
    settings: ModelSettings


class BulkSettings(Settings):
    """How a corpus is read and scored."""

    models: Annotated[tuple[BulkModel, ...], Field(min_length=1)]
    columns: dict[str, str] = Field(default_factory=dict)
    """Role -> column, where the columns' own names are not enough."""
    truncate: bool = False
    """Shorten conversations over the model's limit instead of calling them bad rows."""
    unit_rows: Annotated[int, Field(ge=1)] = UNIT_ROWS
    """Rows of one part file, and what a kill may cost each running replica."""

    @model_validator(mode="after")
    def _distinct(self) -> "BulkSettings":
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"two models are called the same: {', '.join(names)}")
        return self
