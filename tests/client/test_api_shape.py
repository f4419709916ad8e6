"""The public face: a name or a signature that changes here breaks somebody's code."""

import inspect
from typing import Any

import pytest

import rewardserve_client
from rewardserve_client import AsyncRewardClient, RewardClient, pairs, sampling
from rewardserve_client.integrations import openrlhf, trl, verifiers, verl
from rewardserve_client.sampling import RejectionSampler
from rewardserve_client.testing import FakeCluster

NAMES = """
AsyncRewardClient Busy ConnectionFailed Conversation ConversationTooLong DeadlineExceeded
InvalidConversation InvalidRequest InvalidResponse MalformedRequest Message ModelFailed
NonFiniteScore Prompt Ranking Reward RewardClient RewardClientError Rewards ScoreOptions
ServedModel ServerFailed Stalled Timeout TooLarge Unauthorized UnknownModel
"""

SAMPLING_NAMES = """
Generate Keep OpenAIGenerator RejectionSampler Sample SamplesConflict SamplingReport above best
best_of_n_curve expected_best read_samples tempered top_fraction transformers_generator
"""

SIGNATURES: dict[Any, str] = {
    RewardClient: "base_url=None, *, api_key=None, timeout, max_retries=2, max_concurrency=32",
    RewardClient.from_handle: "app_name='router', *, timeout, max_retries=2, max_concurrency=32",
    RewardClient.score: "self, messages, **options",
    RewardClient.score_many: "self, conversations, *, stall_s=600.0, **options",
    RewardClient.score_stream: "self, conversations, *, stall_s=600.0, **options",
    RewardClient.score_responses: "self, prompt, responses, **options",
    RewardClient.score_groups: "self, groups, *, stall_s=600.0, **options",
    RewardClient.best_of_n: "self, prompt, responses, **options",
    RewardClient.models: "self",
    RewardClient.close: "self",
    RejectionSampler: (
        "generate, client, n, *, keep=None, model='default', stop_at=None, step=None, "
        "concurrency=16"
    ),
    RejectionSampler.run: "self, prompts, out=None, *, progress=True",
    pairs.mine_pairs: "prompt, responses, scores, rules",
    pairs.mine_rows: "rows, rules",
    trl.reward_function: "client=None, **options",
    verl.compute_score: (
        "data_source, solution_str, ground_truth, extra_info=None, *, model='default', "
        "truncate=False, prompt_key='prompt', url=None, **_"
    ),
    verl.compute_score_batch: (
        "data_sources, solution_strs, ground_truths, extra_infos, *, model='default', "
        "truncate=False, prompt_key='prompt', url=None, **_"
    ),
    openrlhf.reward_func: "queries, prompts, labels, **_",
    verifiers.reward: "client=None, *, weight=1.0, **options",
    FakeCluster: "score, models=('default',)",
    FakeCluster.client: "self, *, max_retries=2",
}


def shape(function: Any) -> str:
    """The parameters as they are called; of defaults only those that are plain values."""
    words = []
    starred = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        plain = isinstance(parameter.default, str | int | float | tuple | None)
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = f"={parameter.default!r}" if plain else ""
        words.append(f"{stars}{parameter.name}{default}")
    return ", ".join(words)


def test_the_public_names_are_these() -> None:
    assert rewardserve_client.__all__ == sorted(NAMES.split())
    assert sampling.__all__ == sorted(SAMPLING_NAMES.split())


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    for module in (rewardserve_client, sampling):
        for name in module.__all__:
            thing = getattr(module, name)
            assert not inspect.isclass(thing) or thing.__doc__, name


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_the_public_signatures_are_these(function: Any) -> None:
    assert shape(function) == SIGNATURES[function]


def public_methods(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_signatures() -> None:
    twins = public_methods(RewardClient) - {"close", "awaited"}
    assert public_methods(AsyncRewardClient) - {"aclose"} == twins
    for name in twins:
        assert shape(getattr(RewardClient, name)) == shape(getattr(AsyncRewardClient, name)), name
