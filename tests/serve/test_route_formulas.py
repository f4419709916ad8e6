"""What a real cluster answers for every kind of route is the formula on the members' own scores.

The members are scored offline, in this process; the formulas are written out here.
"""

import hashlib
import json
from typing import Any

import httpx2
import numpy as np
import pytest
from tests.serve.conftest import CALIBRATION_SCORES, MODELS, Served

from rewardserve import load_scorer
from rewardserve_client._types import Conversation, Reward, RewardsResponse, join_turns

SKYWORK, ARMORM = MODELS
PROMPTS = [f"What is {number} plus {number}?" for number in range(8)]
RESPONSES = ["I cannot say.", "Twice as much.", "No.", "Ask me something else, please."]
GROUPS = [[join_turns(prompt, response) for response in RESPONSES] for prompt in PROMPTS]
WEIGHTS = {SKYWORK: 1.0, ARMORM: 3.0}
EQUAL = dict.fromkeys(MODELS, 1.0)

Scores = dict[str, np.ndarray]
"""Model -> [prompts, responses]."""


@pytest.fixture(scope="module")
def offline(served: Served) -> dict[str, list[list[Reward]]]:
    """Each model's rewards of every group, without a cluster."""
    scorers = {model: load_scorer(str(served.zoo / model)) for model in MODELS}
    return {model: [scorer.score(group) for group in GROUPS] for model, scorer in scorers.items()}


@pytest.fixture(scope="module")
def scores(offline: dict[str, list[list[Reward]]]) -> Scores:
    return {
        model: np.array([[reward.score for reward in group] for group in groups])
        for model, groups in offline.items()
    }


def served_scores(served: Served, **asked: Any) -> np.ndarray:
    """What the cluster answers, [prompts, responses]."""
    inputs = [{"prompt": prompt, "responses": RESPONSES} for prompt in PROMPTS]
    response = httpx2.post(f"{served.url}/v1/rewards", json={"inputs": inputs, **asked}, timeout=60)
    assert response.status_code == 200, response.text
    answer = RewardsResponse.model_validate_json(response.content)
    return np.array([[reward.score for reward in item.rewards] for item in answer.data])


def assert_equal(served: np.ndarray, formula: np.ndarray) -> None:
    assert np.ptp(formula) > 1e-3, "all the same: nothing would be tested"
    np.testing.assert_allclose(served, formula, rtol=0, atol=1e-5)


def test_single(served: Served, scores: Scores) -> None:
    assert_equal(served_scores(served, model="alone"), scores[ARMORM])


def test_mean_of_calibrated_zscores(served: Served, scores: Scores) -> None:
    ensemble = {"members": WEIGHTS, "normalize": "zscore", "aggregate": "mean"}
    mean, std = np.mean(CALIBRATION_SCORES), np.std(CALIBRATION_SCORES)
    skywork, armorm = ((scores[model] - mean) / std for model in MODELS)
    assert_equal(served_scores(served, ensemble=ensemble), (1 * skywork + 3 * armorm) / 4)


def test_mean_of_group_zscores(served: Served, scores: Scores) -> None:
    ensemble = {"members": WEIGHTS, "normalize": "group_zscore"}
    skywork, armorm = (
        (group - group.mean(axis=1, keepdims=True)) / group.std(axis=1, keepdims=True)
        for group in (scores[model] for model in MODELS)
    )
    assert_equal(served_scores(served, ensemble=ensemble), (1 * skywork + 3 * armorm) / 4)


def test_min(served: Served, scores: Scores) -> None:
    ensemble = {"members": EQUAL, "normalize": "sigmoid", "aggregate": "min"}
    chances = [1 / (1 + np.exp(-scores[model])) for model in MODELS]
    assert_equal(served_scores(served, ensemble=ensemble), np.minimum(*chances))


def test_lower_confidence_bound(served: Served, scores: Scores) -> None:
    ensemble = {
        "members": WEIGHTS,
        "normalize": "none",
        "aggregate": "lower_confidence_bound",
        "k": 0.5,
    }
    skywork, armorm = (scores[model] for model in MODELS)
    mean = (1 * skywork + 3 * armorm) / 4
    variance = (1 * (skywork - mean) ** 2 + 3 * (armorm - mean) ** 2) / 4
    assert_equal(served_scores(served, ensemble=ensemble), mean - 0.5 * np.sqrt(variance))


def test_soft_min(served: Served, scores: Scores) -> None:
    ensemble = {
        "members": WEIGHTS,
        "normalize": "none",
        "aggregate": "soft_min",
        "temperature": 2.0,
    }
    skywork, armorm = (np.exp(-scores[model] / 2) for model in MODELS)
    formula = -2 * np.log((1 * skywork + 3 * armorm) / 4)
    assert_equal(served_scores(served, ensemble=ensemble), formula)


def test_cascade(served: Served, scores: Scores) -> None:
    formula = np.stack([joined(*group) for group in zip(*scores.values(), strict=True)])
    assert_equal(served_scores(served, model="cascade"), formula)


def joined(cheap: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """The two best have the strong score; the others follow at their own distance, below."""
    best = np.argsort(-cheap, kind="stable")[:2]
    lowest = strong[best].min()
    result = np.minimum(cheap - cheap[best].min() + lowest, lowest)
    result[best] = strong[best]
    return result


@pytest.mark.parametrize(("domain", "model"), [("math", ARMORM), ("poetry", SKYWORK)])
def test_select(served: Served, scores: Scores, domain: str, model: str) -> None:
    served_by_tag = served_scores(served, model="by-domain", tags={"domain": domain})
    assert_equal(served_by_tag, scores[model])


def test_split(served: Served, scores: Scores) -> None:
    chosen = [half(group[0][:-1]) for group in GROUPS]
    assert set(chosen) == set(MODELS), "all in one branch: nothing would be tested"
    formula = np.stack([scores[model][index] for index, model in enumerate(chosen)])
    assert_equal(served_scores(served, model="halves"), formula)


def half(prompt: Conversation) -> str:
    """The branch of a prompt: where its hash lies between 0 and 1."""
    key = json.dumps(["halves", prompt], sort_keys=True).encode()
    point = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
    return SKYWORK if point < 0.5 else ARMORM


def test_shadow(served: Served, scores: Scores) -> None:
    assert_equal(served_scores(served, model="watched"), scores[SKYWORK])


def test_attributes_by_own_weights(served: Served, offline: dict[str, list[list[Reward]]]) -> None:
    formula = [
        [2 * named["helpsteer-helpfulness"] - 0.5 * named["helpsteer-verbosity"] for named in group]
        for group in ([reward.attributes or {} for reward in group] for group in offline[ARMORM])
    ]
    assert_equal(served_scores(served, model="own-weights"), np.array(formula))


def test_one_attribute(served: Served, offline: dict[str, list[list[Reward]]]) -> None:
    formula = [
        [(reward.attributes or {})["helpsteer-correctness"] for reward in group]
        for group in offline[ARMORM]
    ]
    assert_equal(served_scores(served, model=f"{ARMORM}.helpsteer-correctness"), np.array(formula))
