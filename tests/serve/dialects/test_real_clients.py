"""The trainers' own request code against the served app, over a socket.

Each test needs its trainer installed and is skipped where it is not; what they send is repeated
literally in the tests of each dialect.
"""

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.serve.fakes import FakeModel, gateway, raising
from tests.serve.sockets import served_on

from rewardserve.errors import Busy

pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours to mend

MODEL_PATH = "/models/rm"


@dataclass
class Socket:
    """The address of the served app, and the model behind it."""

    address: str
    model: FakeModel


@pytest.fixture
def served() -> Iterator[Socket]:
    model = FakeModel("default")
    app = gateway(model, routes={MODEL_PATH: {"single": "default"}}).__serve_build_asgi_app__()
    with served_on(app) as address:
        yield Socket(address, model)


async def test_openrlhf_gets_its_rewards_over_http(openrlhf_agent: Any, served: Socket) -> None:
    executor = openrlhf_agent.SingleTurnAgentExecutor(f"http://{served.address}/get_reward")
    query = "<s>[user] Hi[assistant] Hello</s>"
    (answer,) = await executor._fetch_rewards_via_http([query], ["<s>[user] Hi"], [None])
    assert answer["rewards"] == answer["scores"] == [len(query)]
    assert served.model.calls == [[query]]


class Renderer:
    """A tokenizer that stands for verl's: ids are code points, and the template writes a BOS."""

    bos_token = "<s>"
    eos_token = "</s>"

    def decode(self, ids: Any) -> str:
        return "".join(chr(int(each)) for each in ids)

    def apply_chat_template(self, chat: list[dict[str, str]], **options: Any) -> str:
        return self.bos_token + "".join(f"[{turn['role']}] {turn['content']}" for turn in chat)


def verl_worker(address: str, engine: str) -> Any:
    """verl's worker as far as it asks a reward model."""
    reward_loop = pytest.importorskip(
        "verl.experimental.reward_loop.reward_loop", reason="verl is not installed"
    )
    worker = object.__new__(reward_loop.RewardLoopWorker)
    worker.input_tokenizer = worker.reward_model_tokenizer = Renderer()
    worker.reward_router_address = address
    chosen = {"model_path": MODEL_PATH, "rollout": {"name": engine}}
    omegaconf: Any = importlib.import_module("omegaconf")
    worker.config = omegaconf.OmegaConf.create({"reward": {"reward_model": chosen}})
    return worker


def verl_sample(response: str) -> Any:
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    ids = torch.tensor([[ord(character) for character in response]])
    prompt = np.empty(1, dtype=object)
    prompt[0] = [{"role": "user", "content": "Hi"}]
    return importlib.import_module("verl").DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={"raw_prompt": prompt},
    )


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_verl_reads_its_score_with_either_engine(served: Socket, engine: str) -> None:
    worker = verl_worker(served.address, engine)
    answer = await worker.compute_score_disrm(verl_sample("Hello"))
    text = "[user] Hi[assistant] Hello"
    assert answer == {"reward_score": len(text)}
    assert served.model.calls == [[text]]


async def test_verl_repeats_a_busy_answer(served: Socket) -> None:
    worker = verl_worker(served.address, "vllm")

    async def busy_once(items: Any) -> list[float]:
        served.model.behave = None
        return await raising(Busy("full"))(items)

    served.model.behave = busy_once
    answer = await worker.compute_score_disrm(verl_sample("Hello"))
    assert answer["reward_score"] > 0
    assert len(served.model.calls) == 2


def openai_client(served: Socket) -> Any:
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    return openai.OpenAI(base_url=f"http://{served.address}/v1", api_key="none", max_retries=0)


def test_the_openai_client_decodes_the_embeddings(served: Socket) -> None:
    with openai_client(served) as client:
        # Without a format given, it asks for base64 and decodes that by itself.
        encoded = client.embeddings.create(model="default", input="abc")
        plain = client.embeddings.create(model="default", input="abc", encoding_format="float")
    assert list(encoded.data[0].embedding) == list(plain.data[0].embedding) == [3.0]
    assert encoded.usage.prompt_tokens == 1


def test_the_openai_client_posts_to_other_paths_and_knows_the_errors(served: Socket) -> None:
    with openai_client(served) as client:
        root = f"http://{served.address}"
        answer = client.post(f"{root}/classify", body={"input": "abc"}, cast_to=object)
        assert answer["data"][-1]["probs"][-1] == 3.0
        openai: Any = importlib.import_module("openai")
        with pytest.raises(openai.NotFoundError) as unknown:
            client.embeddings.create(model="nobody", input="abc")
        assert (unknown.value.param, unknown.value.type) == ("model", "NotFoundError")
        with pytest.raises(openai.BadRequestError):
            client.post(f"{root}/classify", body={"input": []}, cast_to=object)
        models = [model.id for model in client.models.list()]
    assert models == ["default", MODEL_PATH]


def test_the_hugging_face_client_finds_a_text_embeddings_server(
    served: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub: Any = importlib.import_module("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    client = hub.InferenceClient(f"http://{served.address}", provider="hf-inference")
    assert client.health_check()
    info = client.get_endpoint_info()
    assert info["model_id"] == "hub/fake"
    assert info["max_input_length"] == 4096
