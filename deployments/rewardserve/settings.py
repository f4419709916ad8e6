"""The schema of cluster.yaml's arguments: frozen models that refuse unknown keys.

Knows names, ranges and defaults. Knows nothing of Ray, of loading, or of what a route computes.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Dtype = Literal["float32", "bfloat16", "float16"]
Quantization = Literal["int8", "fp8"]


class Settings(BaseModel):
    """Base of every settings object: frozen, and a misspelt key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Replicas(Settings):
    """How many copies of a model run."""

    min: Annotated[int, Field(ge=0)] = 1
    """0 lets the model be unloaded when nobody asks for it."""
    max: Annotated[int, Field(ge=1)] = 1
    up_after_s: Annotated[float, Field(ge=0)] = 10.0
    """How long more replicas must have been wanted before they are started."""
    down_after_s: Annotated[float, Field(ge=0)] = 300.0
    """How long fewer must have been enough before one is stopped."""
    zero_after_s: Annotated[float, Field(ge=0)] = 600.0
    """The same for the last one, where `min` is 0."""

    @model_validator(mode="after")
    def _ordered(self) -> "Replicas":
        if self.min > self.max:
            raise ValueError(f"replicas.min is {self.min}, above replicas.max {self.max}")
        return self


class ModelSettings(Settings):
    """One reward model: what to load and where it runs."""

    source: str
    """Hub id or local folder."""
    revision: str | None = None
    """Commit of a hub id."""
    dtype: Dtype = "float32"
    quantize: Quantization | None = None
    """Keep the layers' weights in 8 bits; refused for models whose cards forbid it, and beside
    float16."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs per replica; a fraction shares one. 0 runs on CPU."""
    cpus: Annotated[float, Field(gt=0)] = 1
    accelerator_type: str | None = None
    """Ray's name of the GPU kind, for example `H100`."""
    replicas: Replicas = Replicas()
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest conversation; the checkpoint's own limit when left out."""
    pack_tokens: Annotated[int, Field(ge=1)] | None = None
    """Computed tokens in one forward; what the device's memory holds when left out."""
    batch_invariant: bool = False
    """The same bits for a conversation whatever shares its pack, for some speed."""
    prefix_cache_gib: Annotated[float, Field(ge=0)] | None = None
    """Device memory that keeps what was computed last, for prompts and turns that return; left
    out, 2 on a CPU and a quarter of what a GPU has beside the weights."""
    queue_tokens: Annotated[int, Field(ge=1)] = 262_144
    """Tokens that may wait in one replica before callers are told to come back."""
