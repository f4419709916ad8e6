"""Foreign wire protocols: each file translates one owner's requests to the service's and back.

A file offers `routes(service) -> APIRouter`; listed here it is served, behind the same key and
limits as the native routes. Their errors are answered in their owner's shape.
"""

from collections.abc import Callable

from fastapi import APIRouter

from rewardserve.serving.dialects import (
    llama_factory,
    openai_embeddings,
    openrlhf,
    sglang,
    shared_paths,
    slime,
    tei,
    vllm,
)
from rewardserve.serving.service import Service

DIALECTS: tuple[Callable[[Service], APIRouter], ...] = (
    openrlhf.routes,
    vllm.routes,
    openai_embeddings.routes,
    sglang.routes,
    tei.routes,
    shared_paths.routes,
    slime.routes,
    llama_factory.routes,
)
