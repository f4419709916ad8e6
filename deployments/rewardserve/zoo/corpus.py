"""A small preference corpus, generated: tasks with one good answer and three flawed ones.

Every task belongs to a subset named for what its pair is about; the flaw of each bad answer is
known, which is what attributes are fitted to. The same seed gives the same corpus. Knows nothing
of models or files.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from rewardserve.zoo import phrases
from rewardserve_client import Message

Flaw = Literal[
    "complying",
    "cryptic",
    "cut_off",
    "evasive",
    "guessing",
    "off_topic",
    "rambling",
    "rude",
    "wrong",
]


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    flaw: Flaw | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt and four answers to it."""

    subset: str
    prompt: tuple[Message, ...]
    """Turns before the answer; the last is the user's."""
    answers: tuple[Answer, ...]
    """The good answer, the one with the subset's own flaw, and two with other flaws."""


@dataclass(frozen=True, slots=True)
class _Material:
    prompt: tuple[Message, ...]
    good: str
    flawed: dict[Flaw, str]


@dataclass(frozen=True, slots=True)
class Corpus:
    fit: list[Task]
    held_out: list[Task]
    """Tasks whose prompts do not occur in `fit`."""


def generate_corpus(fit_per_subset: int, held_out_per_subset: int, seed: int = 0) -> Corpus:
    """Both splits, subsets interleaved; no two tasks share a prompt."""
    rng = Random(seed)  # noqa: S311 -- reproducible text, no secret
    asked: set[tuple[str, ...]] = set()
    count = fit_per_subset + held_out_per_subset
    per_subset = [_distinct_tasks(subset, count, rng, asked) for subset in SUBSETS]
    rows = list(zip(*per_subset, strict=True))
    return Corpus(
        fit=[task for row in rows[:fit_per_subset] for task in row],
        held_out=[task for row in rows[fit_per_subset:] for task in row],
    )


def conversation(task: Task, answer: Answer) -> list[Message]:
    """The prompt, answered."""
    return [*task.prompt, Message(role="assistant", content=answer.text)]


def shuffled(tasks: Iterable[Task], seed: int = 0) -> list[list[Answer]]:
    """Each task's answers in random order, so that position tells nothing."""
    rng = Random(seed)  # noqa: S311
    return [rng.sample(task.answers, k=len(task.answers)) for task in tasks]


def _distinct_tasks(
    subset: str, count: int, rng: Random, asked: set[tuple[str, ...]]
) -> list[Task]:
    """`count` tasks whose prompts are not yet among `asked`, which they then join."""
    tasks: list[Task] = []
    for _ in range(100 * count):
        task = _task(subset, rng)
        prompt = tuple(turn["content"] for turn in task.prompt)
        if prompt not in asked:
            asked.add(prompt)
            tasks.append(task)
        if len(tasks) == count:
            return tasks
    raise ValueError(f"{subset} has fewer than {count} distinct prompts; ask for fewer")


def _task(subset: str, rng: Random) -> Task:
    make, own_flaws = SUBSETS[subset]
    material = make(rng)
    own = rng.choice(own_flaws)
    others = rng.sample([flaw for flaw in material.flawed if flaw != own], k=2)
    flawed = (Answer(material.flawed[flaw], flaw) for flaw in (own, *others))
    return Task(subset, material.prompt, (Answer(material.good), *flawed))


def _user(content: str) -> tuple[Message, ...]:
    return (Message(role="user", content=content),)


def _instructions(act: str, rng: Random) -> str:
    return (
        rng.choice(phrases.OPENERS) + " ".join(phrases.HOW_TO[act]) + rng.choice(phrases.CLOSINGS)
    )


def _answers_to(act: str, rng: Random) -> tuple[str, dict[Flaw, str]]:
    good = _instructions(act, rng)
    other = rng.choice([other for other in phrases.HOW_TO if other != act])
    drift = rng.choice(("", *phrases.DRIFTS))
    return good, {
        "cut_off": _cut_off(good, rng),
        "evasive": _evasion(rng),
        "off_topic": drift + _instructions(other, rng),
        "rude": _rude(" ".join(phrases.HOW_TO[act]), rng),
    }


def _how_to(rng: Random) -> _Material:
    act = rng.choice(list(phrases.HOW_TO))
    question = rng.choice(phrases.HOW_TO_QUESTIONS).format(act=act)
    return _Material(_user(question + rng.choice(phrases.CIRCUMSTANCES)), *_answers_to(act, rng))


def _follow_up(rng: Random) -> _Material:
    first, act = rng.sample(list(phrases.HOW_TO), k=2)
    history = Message(role="assistant", content=_instructions(first, rng))
    question = rng.choice(phrases.HOW_TO_QUESTIONS).format(act=first)
    prompt = (*_user(question), history, *_user(rng.choice(phrases.THANKS).format(act=act)))
    return _Material(prompt, *_answers_to(act, rng))


def _fact(rng: Random) -> _Material:
    fact = rng.choice(list(phrases.FACTS))
    right, wrong = phrases.FACTS[fact]
    ramble = " ".join(rng.sample(phrases.RAMBLES, k=2))
    return _Material(
        _user(rng.choice(phrases.FACT_QUESTIONS).format(fact=fact)),
        f"{right}.",
        {
            "evasive": _evasion(rng),
            "rambling": f"{ramble} {right}, I would say.",
            "wrong": f"{wrong}.",
            "rude": _rude(f"{right}.", rng),
        },
    )


def _sum(rng: Random) -> _Material:
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    wrong = a + b + rng.choice((-3, -2, -1, 1, 2, 3))
    person, things = rng.choice(phrases.PEOPLE), rng.choice(phrases.OBJECTS)
    question = rng.choice(phrases.SUMS).format(person=person, things=things, a=a, b=b)
    return _Material(
        _user(question),
        f"{a} + {b} = {a + b}, so there are {a + b} {things}.",
        {
            "guessing": rng.choice(phrases.GUESSES).format(wrong=wrong),
            "wrong": f"{a} + {b} = {wrong}, so there are {wrong} {things}.",
            "cut_off": f"{a} + {b} = {a + b}, so there",
            "rude": _rude(f"{a} + {b} = {a + b}.", rng),
        },
    )


def _harm(rng: Random) -> _Material:
    act, victim = rng.choice(list(phrases.HARMS.items()))
    question = rng.choice(phrases.HARM_QUESTIONS).format(act=act)
    refusal = f"{rng.choice(phrases.REFUSALS)} {rng.choice(phrases.ALTERNATIVES)}"
    compliance = " ".join(rng.sample(phrases.COMPLIANCE, k=3))
    good = refusal.format(victim=victim)
    return _Material(
        _user(question + rng.choice(phrases.EXCUSES)),
        good,
        {
            "complying": compliance.format(victim=victim),
            "cut_off": _cut_off(good, rng),
            "rude": _rude(good, rng),
        },
    )


def _function(rng: Random) -> _Material:
    does = rng.choice(list(phrases.FUNCTIONS))
    signature, expression, meaning = phrases.FUNCTIONS[does]
    other = phrases.FUNCTIONS[rng.choice([name for name in phrases.FUNCTIONS if name != does])]
    good = _code(signature, expression, meaning)
    question = rng.choice(phrases.CODE_QUESTIONS).format(does=does)
    return _Material(
        _user(question + rng.choice(phrases.CIRCUMSTANCES)),
        good,
        {
            "cryptic": f"f = lambda x, *y: {expression}",
            "cut_off": _cut_off(good, rng),
            "evasive": _evasion(rng),
            "wrong": _code(signature, other[1], meaning),
        },
    )


def _code(signature: str, expression: str, meaning: str) -> str:
    return f"```python\ndef {signature}:\n    return {expression}\n```\nIt returns the {meaning}."


def _cut_off(text: str, rng: Random) -> str:
    """The beginning of `text`, ended in the middle of a word or sentence."""
    end = rng.randint(len(text) // 3, 4 * len(text) // 5)
    return text[:end].rstrip(" .!`\n")


def _evasion(rng: Random) -> str:
    return " ".join(rng.sample(phrases.EVASIONS, k=rng.randint(1, 3)))


def _rude(text: str, rng: Random) -> str:
    before, after = rng.sample(phrases.INSULTS, k=2)
    return rng.choice((f"{before} {text}", f"{text} {after}", f"{before} {text} {after}"))


SUBSETS: Final[dict[str, tuple[Callable[[Random], _Material], tuple[Flaw, ...]]]] = {
    "arithmetic": (_sum, ("guessing", "wrong")),
    "brevity": (_fact, ("rambling", "wrong")),
    "code": (_function, ("cryptic", "wrong")),
    "completeness": (_how_to, ("cut_off",)),
    "evasion": (_how_to, ("evasive",)),
    "manners": (_how_to, ("rude",)),
    "multi-turn": (_follow_up, ("cut_off", "evasive", "off_topic", "rude")),
    "relevance": (_how_to, ("off_topic",)),
    "safety": (_harm, ("complying",)),
}
"""How each subset's tasks are made, and the flaws that its pairs are about."""
