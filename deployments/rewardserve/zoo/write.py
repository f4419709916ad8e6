"""Writing the whole zoo: corpus, tokenizers and seven fitted checkpoints."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from rewardserve.zoo import phrases
from rewardserve.zoo.checkpoints import write_checkpoint
from rewardserve.zoo.corpus import Task, generate_corpus
from rewardserve.zoo.corpus_files import write_corpus
from rewardserve.zoo.models import MODELS
from rewardserve.zoo.recorded import record_checks
from rewardserve.zoo.tokenizer import Merges, learn_merges

ZOO_MODELS: Final = tuple(model.name for model in MODELS)
"""Names of the checkpoints, which are also their folders."""

FIT_PER_SUBSET: Final = 50
HELD_OUT_PER_SUBSET: Final = 40
_ROLE_NAMES: Final = ("system", "user", "assistant", "model")
_DATE_LINES: Final = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024"


def write_zoo(folder: Path) -> None:
    """Write seven checkpoints to `<folder>/<name>/` and the corpus to `<folder>/corpus/`.

    Takes well under a minute on one core and gives the same files every time on one machine.
    Existing files of the same names are replaced.
    """
    corpus = generate_corpus(FIT_PER_SUBSET, HELD_OUT_PER_SUBSET)
    write_corpus(corpus, folder / "corpus")
    merges = _merges(corpus.fit)
    with _reproducible():
        for seed, model in enumerate(MODELS):
            write_checkpoint(model, merges, corpus.fit, folder / model.name, seed=seed)
            record_checks(folder / model.name)


def _merges(tasks: Sequence[Task]) -> Merges:
    """Learned on the corpus, the templates' own words and frequent English words."""
    prompts = [turn["content"] for task in tasks for turn in task.prompt]
    answers = [answer.text for task in tasks for answer in task.answers]
    template_words = [*_ROLE_NAMES, _DATE_LINES] * len(tasks)
    common = [f" {word}" for word in phrases.FREQUENT_ENGLISH.split()] * 3
    return learn_merges([*prompts, *answers, *template_words, *common])


@contextmanager
def _reproducible() -> Iterator[None]:
    """One thread and a random state of our own; both are given back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
