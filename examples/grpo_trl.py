"""GRPO with TRL, rewarded by two models of the cluster at the same time.

    pip install trl
    python examples/grpo_trl.py --policy Qwen/Qwen2.5-0.5B-Instruct --models armorm,urm

TRL asks both reward functions together and adds their rewards; the means of every attribute are in
its logs as `armorm/<attribute>`.
"""

import argparse

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from rewardserve_client import RewardClient
from rewardserve_client.integrations.trl import reward_function

QUESTIONS = [f"What is {a} + {b}?" for a in range(10, 30, 5) for b in range(3, 9, 2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--models", default="default", help="one reward function each")
    parser.add_argument("--policy", required=True, help="hub id or folder of the model to train")
    parser.add_argument("--out", default="grpo-out")
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()

    prompts = [[{"role": "user", "content": question}] for question in QUESTIONS]
    client = RewardClient(args.url)
    on_gpu = torch.cuda.is_available()
    trainer = GRPOTrainer(
        model=args.policy,
        reward_funcs=[reward_function(client, model=name) for name in args.models.split(",")],
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        args=GRPOConfig(
            output_dir=args.out,
            max_steps=args.steps,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=32,
            use_cpu=not on_gpu,
            bf16=on_gpu,
            logging_steps=1,
            report_to=[],
        ),
    )
    trainer.train()
    for entry in trainer.state.log_history:
        if "reward" in entry:
            print(f"step {entry['step']}: mean reward {entry['reward']:.4f}")


if __name__ == "__main__":
    main()
