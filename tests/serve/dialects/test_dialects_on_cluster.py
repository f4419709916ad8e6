"""Every dialect gives the score that the native protocol gives, on a real cluster."""

from typing import Any

import httpx2
import pytest
from tests.serve.conftest import MODELS, Served

from rewardserve.families.loading import load_model

PROMPT, RESPONSE = "What is two plus two?", "It is four."
CONVERSATION = [
    {"role": "user", "content": PROMPT},
    {"role": "assistant", "content": RESPONSE},
]


def post(served: Served, path: str, body: Any) -> Any:
    response = httpx2.post(f"{served.url}{path}", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("model", MODELS)
def test_one_conversation_has_one_score_in_whatever_dialect(served: Served, model: str) -> None:
    text = load_model(str(served.zoo / model)).text
    rendered = text.render(CONVERSATION)
    bos = "<|begin_of_text|>"
    assert rendered.startswith(bos)
    token_ids = text.encode(CONVERSATION, max_tokens=512)[0].tolist()

    native = post(served, "/v1/rewards", {"model": model, "inputs": [{"messages": CONVERSATION}]})[
        "data"
    ][0]["rewards"][0]

    def classified(**body: Any) -> float:
        score: float = post(served, "/classify", {"model": model, **body})["data"][-1]["probs"][-1]
        return score

    pair = {"model": model, "queries": PROMPT, "documents": [RESPONSE]}
    sample = {"prompt": PROMPT, "response": RESPONSE, "label": ""}
    logged = post(served, f"/get_reward?model={model}", {"query": [rendered]})
    scores = {
        "chat": classified(messages=CONVERSATION),
        "text with BOS": classified(input=rendered),
        "text without BOS, as verl sends it": classified(input=rendered.removeprefix(bos)),
        "token ids": classified(input=token_ids),
        "OpenRLHF": logged["rewards"][0],
        "vLLM score": post(served, "/score", pair)["data"][0]["score"],
        "slime": post(served, f"/slime?model={model}", sample),
        "TEI pair": post(
            served,
            f"/predict?model={model}",
            {"inputs": [PROMPT, RESPONSE], "raw_scores": True},
        )[0]["score"],
    }
    assert scores == pytest.approx(dict.fromkeys(scores, native["score"]), abs=1e-5)
    assert logged["extra_logs"].keys() == (native["attributes"] or {}).keys()
