"""Scoring from inside another Ray job on the same cluster: by handle, without HTTP or JSON.

    ray job submit -- python examples/score_from_ray_job.py

Each task gets the client by pickling and opens its own handle to the router.
"""

import ray

from rewardserve_client import RewardClient

QUESTIONS = [f"What is {n} + {n}?" for n in range(20, 28)]


@ray.remote(num_cpus=0.1)
def best_answer(client: RewardClient, question: str, answers: list[str]) -> str:
    return client.best_of_n(question, answers).best


def main() -> None:
    ray.init(address="auto", ignore_reinit_error=True)
    client = RewardClient.from_handle()
    answers = {
        question: [f"It is {2 * n}.", f"It is {2 * n + 10}.", "I would rather not say."]
        for n, question in enumerate(QUESTIONS, start=20)
    }
    tasks = [best_answer.remote(client, question, given) for question, given in answers.items()]
    for question, picked in zip(QUESTIONS, ray.get(tasks), strict=True):
        print(f"{question} {picked}")


if __name__ == "__main__":
    main()
