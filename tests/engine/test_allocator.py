"""A forward's buffers are used again by the next one."""

import subprocess
import sys

import pytest

FORWARDS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from transformers import AutoModel, LlamaConfig

from rewardserve.engine.allocator import reuse_freed_memory
from rewardserve.engine.backbone import PackedBackbone
from rewardserve.engine.tree import plan_packs

config = LlamaConfig(
    vocab_size=64, hidden_size=256, intermediate_size=1024, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
)
backbone = PackedBackbone(AutoModel.from_config(config).eval(), "sdpa")
backbone.lay_out()
random = np.random.default_rng(0)
sequences = [random.integers(0, 64, 400).astype(np.int32) for _ in range(8)]
(pack,) = plan_packs(sequences, pack_tokens=10**6)

@torch.inference_mode()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    backbone(pack, [len(pack.token_ids) - 1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
if sys.argv[1] == "reuse":
    reuse_freed_memory()
with ThreadPoolExecutor(1) as device:
    print(min(device.submit(faults).result() for _ in range(4)))
"""


def page_faults(way: str) -> int:
    """Of the cheapest of a few forwards, on a thread of its own as replicas have."""
    done = subprocess.run(
        [sys.executable, "-c", FORWARDS, way], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_a_forward_faults_no_pages_in_that_the_last_one_had() -> None:
    default = page_faults("default")
    assert default > 1000
    assert page_faults("reuse") < default / 10
