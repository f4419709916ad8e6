"""Fine-tuning data by RAFT: draw responses, keep the best share of each prompt's.

    python examples/raft_data.py raft.jsonl --policy http://127.0.0.1:8001/v1 --policy-model NAME

writes `raft.jsonl.samples.jsonl` (everything drawn, with scores; a second run continues it) and
`raft.jsonl` in TRL's prompt-completion format, for `SFTTrainer`. Prompts are one a line on stdin:

    echo "Explain recursion to a child." | python examples/raft_data.py raft.jsonl ...
"""

import argparse
import json
import sys
from pathlib import Path

from rewardserve_client import RewardClient
from rewardserve_client.sampling import OpenAIGenerator, RejectionSampler, top_fraction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the reward cluster")
    parser.add_argument("--model", default="default", help="the reward model or route")
    parser.add_argument("--policy", required=True, help="a server that speaks OpenAI's protocol")
    parser.add_argument("--policy-model", required=True)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--keep", type=float, default=0.25, help="share of each prompt's responses")
    args = parser.parse_args()

    prompts = [line.strip() for line in sys.stdin if line.strip()]
    policy = OpenAIGenerator(args.policy, args.policy_model, temperature=1.0)
    with RewardClient(args.url) as client:
        sampler = RejectionSampler(
            policy, client, args.n, keep=top_fraction(args.keep), model=args.model
        )
        report = sampler.run(prompts, f"{args.out}.samples.jsonl")
    with args.out.open("w", encoding="utf-8") as file:
        for sample in report.samples:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in sample.to_sft())
    print(report)


if __name__ == "__main__":
    main()
