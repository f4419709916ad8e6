"""What the route lab counts, against counts made by hand."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pyarrow as pa
import pytest

from rewardserve.batch.lab.agreement import Agreement
from rewardserve.batch.lab.cost import estimated_tokens
from rewardserve.batch.lab.route_lab import RouteLab
from rewardserve.batch.lab.scored_rows import ScoredBatch
from rewardserve.batch.route_outcomes import ScoredRow
from rewardserve.errors import ConversationTooLong, InvalidRequest, ModelFailed
from rewardserve.route_settings import RouteSettings
from rewardserve.routing.plan import Plan, resolve
from rewardserve_client import Reward
from rewardserve_client._types import join_turns


def plain_tau_b(prompts: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Kendall's tau-b over the pairs within prompts, from its definition."""
    concordant = discordant = only_first = only_second = 0
    for first, second in prompts:
        for i, j in combinations(range(len(first)), 2):
            a, b = first[i] - first[j], second[i] - second[j]
            concordant += a * b > 0
            discordant += a * b < 0
            only_first += a != 0 and b == 0
            only_second += a == 0 and b != 0
    ordered = concordant + discordant
    return (concordant - discordant) / math.sqrt((ordered + only_first) * (ordered + only_second))


def test_agreement_is_kendalls_tau_within_prompts() -> None:
    first = [[1.0, 2.0, 3.0, 4.0], [5.0, 5.0], [2.0, 1.0], [3.0, 1.0, 2.0]]
    second = [[1.0, 3.0, 2.0, 2.0], [1.0, 7.0], [9.0, 9.0], [3.0, 1.0, 2.0]]
    agreement = Agreement(["one", "two"])
    for one, two in zip(first, second, strict=True):
        agreement.add({"one": one, "two": two})
    expected = plain_tau_b(list(zip(first, second, strict=True)))
    tau = agreement.kendall_tau()
    assert tau["one"]["two"] == pytest.approx(expected)
    assert tau["two"]["one"] == pytest.approx(expected)
    assert tau["one"]["one"] == 1.0


def test_only_prompts_that_both_scored_count() -> None:
    agreement = Agreement(["one", "two", "three"])
    agreement.add({"one": [1.0, 2.0], "two": [1.0, 2.0]})
    agreement.add({"one": [1.0, 2.0], "two": [2.0, 1.0]})
    agreement.add({"one": [2.0, 1.0]})
    agreement.add({"two": [5.0]})
    assert agreement.kendall_tau()["one"]["two"] == 0.0
    assert agreement.kendall_tau()["one"]["three"] is None
    assert agreement.same_best()["one"] == {"one": 1.0, "two": 0.5, "three": None}


def test_a_prompt_is_charged_once_a_call() -> None:
    prompt, answers = "p" * 30, ["a" * 10, "b" * 30]
    conversations = [join_turns(prompt, answer) for answer in answers]
    rewards = [Reward(score=0.0, model="m", tokens=tokens) for tokens in (40, 60)]
    assert estimated_tokens(conversations, rewards) == pytest.approx(30 + 10 + 30)
    assert estimated_tokens(conversations[:1], rewards[:1]) == pytest.approx(40)
    assert estimated_tokens([], []) == 0


ROUTES = {
    "mean": {"ensemble": {"members": {"weak": 1, "strong": 1}, "normalize": "none"}},
    "cheap": {"cascade": {"first": "weak", "then": "strong", "top_k": 2}},
    "by-subset": {
        "select": {"rules": [{"when": {"subset": "math"}, "use": "strong"}], "default": "weak"}
    },
}


def plan_of(routes: Mapping[str, Any] = ROUTES) -> Plan:
    parsed = {name: RouteSettings.model_validate(route) for name, route in routes.items()}
    return resolve(parsed, ["weak", "strong"])


def row(weak: Sequence[float], strong: Sequence[float]) -> ScoredRow:
    conversations = [join_turns("p" * 20, f"answer {n}") for n in range(len(weak))]
    said = {"weak": weak, "strong": strong}
    return ScoredRow(
        list(conversations),
        {
            model: [Reward(score=score, model=model, tokens=30) for score in scores]
            for model, scores in said.items()
        },
    )


def candidates(rows: list[ScoredRow], labels: list[list[int]], subsets: list[str]) -> ScoredBatch:
    table = pa.table({"labels": labels, "subset": subsets})
    return ScoredBatch(table, rows)


ROLES = {"labels": "labels", "subset": "subset"}


async def reported(batch: ScoredBatch, plan: Plan, **measured: int) -> dict[str, Any]:
    lab = RouteLab(plan, "candidates", ROLES)
    await lab.add(batch)
    return lab.report({"weak": 100, "strong": 1000} | measured)


async def test_every_name_has_its_accuracy_by_subset() -> None:
    rows = [row([3, 2, 1], [1, 2, 0]), row([1, 2, 3], [9, 1, 1])]
    batch = candidates(rows, [[0, 1, 0], [1, 0, 0]], ["math", "chat"])
    names = (await reported(batch, plan_of()))["names"]
    right = {
        name: {subset: rate["accuracy"] for subset, rate in shown["accuracy"].items()}
        for name, shown in names.items()
    }
    assert right == {
        "weak": {"all": 0.0, "math": 0.0, "chat": 0.0},
        "strong": {"all": 1.0, "math": 1.0, "chat": 1.0},
        # the means are [2, 2, .5] and [5, 1.5, 2]: a tie is worth half
        "mean": {"all": 0.75, "math": 0.5, "chat": 1.0},
        # the weak model sends on the first two, and the last two
        "cheap": {"all": 0.5, "math": 1.0, "chat": 0.0},
        "by-subset": {"all": 0.5, "math": 1.0, "chat": 0.0},
    }
    assert names["mean"]["mean_spread"] == pytest.approx((1 + 0 + 0.5 + 4 + 0.5 + 1) / 6)
    assert names["weak"]["mean_spread"] is None


async def test_a_cascade_costs_its_first_stage_and_a_share_of_its_second() -> None:
    batch = candidates([row([4, 3, 2, 1], [1, 2, 3, 4])] * 2, [[0, 0, 0, 1]] * 2, ["a", "b"])
    report = await reported(batch, plan_of())
    spent = {name: shown["computed_tokens"] for name, shown in report["names"].items()}
    assert (spent["weak"], spent["strong"], spent["mean"]) == (100, 1000, 1100)
    prompt = 30 * 20 / 28
    share = (prompt + 2 * (30 - prompt)) / (prompt + 4 * (30 - prompt))
    assert spent["cheap"] == round(100 + 1000 * share)
    assert report["cascades"] == {"cheap": "strong"}
    assert report["names"]["cheap"]["tokens"] == 2 * (4 + 2) * 30


async def test_rows_without_rewards_are_errors_of_the_routes_that_needed_them() -> None:
    good = row([1, 2], [2, 1])
    too_long = ConversationTooLong("9,204 tokens; this model takes 8,192")
    half = ScoredRow(good.conversations, good.said | {"strong": [too_long, good.said["strong"][1]]})
    bad = ScoredRow([InvalidRequest("the prompt is null")], {"weak": [], "strong": []})
    batch = candidates([good, half, bad], [[1, 0], [1, 0], [1]], ["x", "x", "x"])
    names = (await reported(batch, plan_of()))["names"]
    assert names["weak"]["errors"] == {"invalid_request": 1}
    assert names["strong"]["errors"] == {"conversation_too_long": 2, "invalid_request": 1}
    assert names["mean"]["errors"] == {"conversation_too_long": 2, "invalid_request": 1}
    assert names["weak"]["accuracy"]["all"]["rows"] == 2
    assert names["mean"]["accuracy"]["all"]["rows"] == 1


async def test_what_is_no_fault_of_a_row_ends_the_trial() -> None:
    batch = candidates([row([1, 2], [2, 1])], [[1, 0]], ["x"])
    with pytest.raises(ModelFailed, match="no attribute `style`"):
        await reported(batch, plan_of({"styled": {"single": "weak.style"}}))
