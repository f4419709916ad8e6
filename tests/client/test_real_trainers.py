"""The trainers' own code calls our reward functions, over HTTP.

Each test needs its trainer installed and is skipped where it is not: TRL comes with the extra
`trainers`; verl, OpenRLHF and verifiers pin other versions than this project and want an
environment of their own (`pip install --no-deps` is enough for OpenRLHF).
"""

import asyncio
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.client.test_overload import SERVER, free_port

from rewardserve_client import AsyncRewardClient, integrations

FOLDER = Path(integrations.__file__).parent
PROMPT = [{"role": "user", "content": "What is 2 + 2?"}]

pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours to mend


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A scoring server in a process of its own."""
    port = free_port()
    command = [sys.executable, str(SERVER), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        yield f"http://127.0.0.1:{port}"
        server.kill()


def tiny_policy(folder: Path) -> Any:
    """A model of a few thousand random weights with a tokenizer of single bytes, saved."""
    tokenizers: Any = importlib.import_module("tokenizers")
    transformers: Any = importlib.import_module("transformers")

    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet])}
    bytewise = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    bytewise.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytewise, pad_token="<pad>", eos_token="<eos>"
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_trl_trains_a_few_steps_on_the_clusters_rewards(url: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    datasets = pytest.importorskip("datasets")
    from rewardserve_client.integrations.trl import reward_function  # noqa: PLC0415

    tokenizer = tiny_policy(tmp_path / "policy")
    client = AsyncRewardClient(url)
    trainer = trl.GRPOTrainer(
        model=str(tmp_path / "policy"),
        processing_class=tokenizer,
        reward_funcs=[reward_function(client), reward_function(client, tags={"second": "yes"})],
        train_dataset=datasets.Dataset.from_dict({"prompt": [PROMPT] * 8}),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path / "run"),
            max_steps=3,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=8,
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
        ),
    )
    trainer.train()
    asyncio.run_coroutine_threadsafe(client.aclose(), trainer.async_loop).result()
    logged = [entry for entry in trainer.state.log_history if "rewards/default/mean" in entry]
    assert len(logged) == 3
    # Both functions give the length of the completion, so the reward is twice that.
    assert all(e["reward"] == pytest.approx(2 * e["rewards/default/mean"]) for e in logged)
    assert all(0 < entry["rewards/default/mean"] <= 4 * 8 for entry in logged)


class Words:
    """A tokenizer that stands for verl's: ids are code points."""

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        return "".join(chr(int(each)) for each in ids if int(each) > 0)


def verl_batch(responses: list[str]) -> Any:
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    width = max(map(len, responses))
    ids = torch.tensor([[*map(ord, text), *[0] * (width - len(text))] for text in responses])
    prompts = torch.ones(len(responses), 1, dtype=torch.long)
    infos = [{"prompt": PROMPT} for _ in responses]
    return importlib.import_module("verl").DataProto.from_dict(
        tensors={
            "prompts": prompts,
            "responses": ids,
            "attention_mask": torch.cat([prompts, (ids > 0).long()], dim=1),
        },
        non_tensors={
            "data_source": np.array(["math"] * len(responses), dtype=object),
            "reward_model": np.array([{"ground_truth": "4"}] * len(responses), dtype=object),
            "extra_info": np.array(infos, dtype=object),
        },
    )


def omegaconf(config: dict[str, Any]) -> Any:
    """The kind of configuration that verl reads."""
    return importlib.import_module("omegaconf").OmegaConf.create(config)


def verl_function(name: str, url: str) -> Any:
    """Our function as verl loads it from its configuration."""
    rewards = importlib.import_module("verl.trainer.ppo.reward")
    chosen = {"path": str(FOLDER / "verl.py"), "name": name, "reward_kwargs": {"url": url}}
    config = {"reward": {"custom_reward_function": chosen}}
    return rewards.get_custom_reward_fn(omegaconf(config))


def loaded(function: Any) -> dict[str, Any]:
    """What is in the module that verl made of our file."""
    names: dict[str, Any] = function.args[0].__globals__
    return names


async def test_verl_scores_one_sample_at_a_time(url: str) -> None:
    pytest.importorskip("verl", reason="verl is not installed")
    naive = pytest.importorskip("verl.experimental.reward_loop.reward_manager.naive")
    compute_score = verl_function("compute_score", url)
    manager = naive.NaiveRewardManager(omegaconf({}), Words(), compute_score)
    result = await manager.run_single(verl_batch(["It is 4"]))
    await loaded(compute_score)["_awaited"](url).aclose()
    assert result["reward_score"] == 4.0
    assert result["reward_extra_info"] == {"score": 4.0}


def test_verl_scores_a_batch(url: str) -> None:
    pytest.importorskip("verl", reason="verl is not installed")
    batch = importlib.import_module("verl.workers.reward_manager.batch")
    compute_score = verl_function("compute_score_batch", url)
    manager = batch.BatchRewardManager(Words(), num_examine=0, compute_score=compute_score)
    rewards = manager(verl_batch(["It is 4", "12"]))
    loaded(compute_score)["_blocking"](url).close()
    # The reward stands at the response's last token.
    assert rewards.tolist() == [[0, 0, 0, 0, 0, 0, 4.0], [0, 12.0, 0, 0, 0, 0, 0]]


async def test_openrlhf_loads_and_calls_the_reward_function_file(
    openrlhf_agent: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWARDSERVE_URL", url)
    executor = openrlhf_agent.SingleTurnAgentExecutor(str(FOLDER / "openrlhf.py"))
    prompt = "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    query = prompt + "It is 4<|im_end|>"
    (result,) = await executor._fetch_rewards_via_func([query], [prompt], [""])
    executor.reward_func.__globals__["_client"]().close()
    assert result["rewards"].tolist() == [4.0]
    assert result["scores"].tolist() == [4.0]


async def test_verifiers_records_the_reward_with_its_weight(url: str) -> None:
    vf: Any = pytest.importorskip("verifiers.v1", reason="verifiers is not installed")
    graph = importlib.import_module("verifiers.v1.graph")
    from rewardserve_client.integrations.verifiers import reward  # noqa: PLC0415

    class Sum(vf.Task):  # type: ignore[misc] # verifiers is not installed everywhere
        quality = reward(client := AsyncRewardClient(url), model="default", weight=0.5)

    task = Sum(vf.TaskData(idx=0, prompt="What is 2 + 2?"))
    turns = [vf.UserMessage(content="What is 2 + 2?"), vf.AssistantMessage(content="It is 4")]
    nodes = [graph.MessageNode(message=turns[0]), graph.MessageNode(message=turns[1], parent=0)]
    trace = vf.Trace.model_construct(nodes=nodes, rewards={}, metrics={})
    await task.score(trace)
    await Sum.client.aclose()
    assert trace.rewards == {"default": vf.Reward(score=4.0, weight=0.5)}
    assert trace.reward == 2.0
