"""Fan-out under delays, errors, NaN, cancels and restarts: what must hold in every story.

A red seed is replayed by `run(seed)`.
"""

import hashlib
import math
import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from simulated_cluster import ATTRIBUTES, MODELS, Story, run, truth

from rewardserve.errors import InvalidRequest, RewardServeError
from rewardserve_client._types import Reward

SEEDS = 2000
BLOCK = 100


@pytest.mark.parametrize("start", range(0, SEEDS, BLOCK))
def test_every_invariant_holds_in_every_story(start: int) -> None:
    for seed in range(start, start + BLOCK):
        try:
            check(run(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_seed_tells_the_same_story_again() -> None:
    for seed in range(0, SEEDS, 20):
        assert run(seed).told() == run(seed).told()


def test_a_seed_tells_the_same_story_in_another_process() -> None:
    program = "import sys; from test_simulation import digest; print(digest())"
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    here = Path(__file__).parent
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest()


def test_the_stories_are_not_all_happy() -> None:
    stories = [run(seed) for seed in range(400)]
    ends = Counter(type(story.end).__name__ for story in stories)
    faults = Counter(fault for story in stories for fault in story.cluster.faults)
    assert min(ends["list"], ends["NoneType"], ends["ModelFailed"], ends["Busy"]) >= 5
    assert {"nan", "short", "Busy", "late", "cancelled", "restarted", "attribute"} <= set(faults)
    assert any(
        reward.failed_members
        for story in stories
        if isinstance(story.end, list)
        for group in story.end
        for reward in group
    )


def digest() -> str:
    """A fingerprint of forty stories."""
    told = "".join(run(seed).told() for seed in range(40))
    return hashlib.sha256(told.encode()).hexdigest()


def check(story: Story) -> None:
    """All that is promised of any request, whatever happened."""
    assert story.orphans == 0, "a task outlived the request"
    assert story.cluster.in_flight == 0, "a call outlived the request"
    assert story.ended_at <= story.cluster.deadline + 1e-9, "the deadline did not hold"
    check_calls(story)
    if isinstance(story.end, list):
        check_answer(story, story.end)
    elif isinstance(story.end, RewardServeError):
        check_error(story, story.end)
    else:
        assert story.cancelled_at is not None
        assert math.isclose(story.ended_at, story.cancelled_at), "cancelling took time"


def check_calls(story: Story) -> None:
    """Each call of a model is ended exactly once, and asks for whole texts of the request."""
    asked = Counter((m, texts) for _, what, m, texts in story.cluster.log if what == "asked")
    ends = {"answered", "late", "ModelFailed", "Busy", "cancelled"}
    ended = Counter((m, texts) for _, what, m, texts in story.cluster.log if what in ends)
    assert asked == ended
    known = {text for group in story.texts for text in group}
    for _, texts in asked:
        assert texts
        assert set(texts) <= known
        assert len(set(texts)) == len(texts), "a text was scored twice in one call"


def check_error(story: Story, error: RewardServeError) -> None:
    if isinstance(error, InvalidRequest):
        assert any(len(group) == 1 for group in story.texts)
        assert "2 or more responses" in str(error)
    else:
        assert story.cluster.faults, "an error without a fault"


def check_answer(story: Story, answer: list[list[Reward]]) -> None:
    assert [len(group) for group in answer] == [len(group) for group in story.texts]
    for texts, rewards in zip(story.texts, answer, strict=True):
        check_group(story, story.route, texts, rewards)
    for shadowed in story.shadowed:
        assert len(shadowed.answer) == len(story.texts) or story.routes[story.route].keys() != {
            "shadow"
        }


def check_group(story: Story, name: str, texts: list[str], rewards: list[Reward]) -> None:
    """The rewards of one group are what the route's definition makes of the models' true scores."""
    if name not in story.routes:
        expected = [truth(name, text) for text in texts]
        assert [reward.score for reward in rewards] == expected, f"{name} was not quoted rightly"
        return
    ((kind, settings),) = story.routes[name].items()
    CHECKS[kind](story, settings, texts, rewards)


def check_ensemble(
    story: Story, settings: dict[str, Any], texts: list[str], rewards: list[Reward]
) -> None:
    members = settings["members"]
    present = list(rewards[0].members or {})
    for reward in rewards:
        assert list(reward.members or {}) == present, "members differ within a group"
        assert set(present) | set(reward.failed_members) == set(members)
        assert len(present) + len(reward.failed_members) == len(members)
    assert len(present) >= settings.get("quorum", len(members)), "too few members for an answer"
    columns = []
    for member in present:
        own = [(reward.members or {})[member] for reward in rewards]
        check_group(story, member, texts, own)
        columns.append(normalized(settings["normalize"], [reward.score for reward in own]))
    weights = [members[member] for member in present]
    for reward, column in zip(rewards, zip(*columns, strict=True), strict=True):
        expected = combined(settings["aggregate"], column, weights)
        assert math.isclose(reward.score, expected, rel_tol=1e-9, abs_tol=1e-9)
        assert list((reward.attributes or {}).values()) == pytest.approx(column, abs=1e-9)
        shares = [weight / sum(weights) for weight in weights]
        if settings["aggregate"] == "mean":
            assert list((reward.weights or {}).values()) == pytest.approx(shares)
        spread = statistics.pstdev(column)
        assert math.isclose((reward.uncertainty or {})["spread"], spread, abs_tol=1e-9)


def check_cascade(
    story: Story, settings: dict[str, Any], texts: list[str], rewards: list[Reward]
) -> None:
    cheap, strong = [], {}
    for index, reward in enumerate(rewards):
        stages = list((reward.members or {}).values())
        cheap.append(stages[0])
        if len(stages) == 2:
            strong[index] = stages[1]
    check_group(story, settings["first"], texts, cheap)
    check_group(
        story,
        settings["then"],
        [texts[i] for i in ranked(cheap, strong)],
        [strong[i] for i in ranked(cheap, strong)],
    )
    assert len(strong) == min(settings["top_k"], len(texts))
    for index, reward in enumerate(rewards):
        if index in strong:
            assert reward.score == strong[index].score
        else:
            assert reward.score <= min(one.score for one in strong.values())
            assert cheap[index].score <= min(cheap[i].score for i in strong)


def ranked(cheap: list[Reward], strong: dict[int, Reward]) -> list[int]:
    return sorted(strong, key=lambda index: -cheap[index].score)


def check_branches(
    story: Story, branches: list[str], texts: list[str], rewards: list[Reward]
) -> None:
    failures = []
    for branch in branches:
        try:
            check_group(story, branch, texts, rewards)
        except AssertionError as error:
            failures.append(error)
        else:
            return
    raise AssertionError(f"the answer is none of {branches}: {failures}")


def check_select(
    story: Story, settings: dict[str, Any], texts: list[str], rewards: list[Reward]
) -> None:
    code = story.tags["domain"] == "code"
    chosen = settings["rules"][0]["use"] if code else settings["default"]
    check_group(story, chosen, texts, rewards)


def check_attributes(
    story: Story, settings: dict[str, Any], texts: list[str], rewards: list[Reward]
) -> None:
    for text, reward in zip(texts, rewards, strict=True):
        assert settings["model"] in MODELS
        expected = sum(
            settings["weights"][part] * truth(f"{settings['model']}.{part}", text)
            for part in ATTRIBUTES
        )
        assert math.isclose(reward.score, expected, abs_tol=1e-9)


CHECKS: dict[str, Any] = {
    "ensemble": check_ensemble,
    "cascade": check_cascade,
    "attributes": check_attributes,
    "select": check_select,
    "split": lambda story, settings, texts, rewards: check_branches(
        story, list(settings["weights"]), texts, rewards
    ),
    "shadow": lambda story, settings, texts, rewards: check_group(
        story, settings["answer"], texts, rewards
    ),
}


def normalized(normalize: str, scores: list[float]) -> list[float]:
    match normalize:
        case "sigmoid":
            return [1 / (1 + math.exp(-score)) for score in scores]
        case "group_zscore":
            deviation = statistics.pstdev(scores)
            mean = statistics.fmean(scores)
            return [(score - mean) / deviation if deviation else 0.0 for score in scores]
        case "group_rank":
            others = len(scores) - 1
            below = [sum(other < score for other in scores) for score in scores]
            equal = [scores.count(score) - 1 for score in scores]
            return [(b + e / 2) / others for b, e in zip(below, equal, strict=True)]
        case _:
            return scores


def combined(aggregate: str, column: tuple[float, ...], weights: list[float]) -> float:
    mean = sum(w * r for w, r in zip(weights, column, strict=True)) / sum(weights)
    match aggregate:
        case "median":
            return statistics.median(column)
        case "min":
            return min(column)
        case "lower_confidence_bound":
            squares = sum(w * (r - mean) ** 2 for w, r in zip(weights, column, strict=True))
            return mean - math.sqrt(squares / sum(weights))
        case _:
            return mean
