"""Queries and documents, which are prompts and responses here: paired, and put into order."""

from rewardserve.errors import MalformedRequest
from rewardserve_client._types import Conversation, Reward, join_turns


def groups_of(queries: str | list[str], documents: str | list[str]) -> list[list[Conversation]]:
    """One query with all documents, or each query with its own. Raises MalformedRequest."""
    prompts = [queries] if isinstance(queries, str) else queries
    responses = [documents] if isinstance(documents, str) else documents
    if len(prompts) == 1:
        return [[join_turns(prompts[0], response) for response in responses]]
    if len(prompts) != len(responses):
        raise MalformedRequest(
            f"{len(prompts)} queries and {len(responses)} documents; send one query, or as many "
            "as documents"
        )
    pairs = zip(prompts, responses, strict=True)
    return [[join_turns(prompt, response)] for prompt, response in pairs]


def best_first(rewards: list[Reward]) -> list[int]:
    """Indices by falling score; equal scores keep their order."""
    return sorted(range(len(rewards)), key=lambda index: -rewards[index].score)
