"""Where responses come from: any function, a server that speaks OpenAI's protocol, or a model.

A generator takes a prompt and a number, and gives that many responses. It may be a plain function
or a coroutine function; plain functions are called one at a time, in one thread.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeAlias

import httpx2

from rewardserve_client._errors import ConnectionFailed, InvalidResponse, from_status
from rewardserve_client._retry import attempts
from rewardserve_client._types import Message, Prompt

Generate: TypeAlias = Callable[[Prompt, int], Sequence[str] | Awaitable[Sequence[str]]]


class Generator:
    """Calls a `Generate` so that an event loop is never blocked."""

    def __init__(self, generate: Generate) -> None:
        self._generate = generate
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generate")

    async def __call__(self, prompt: Prompt, n: int) -> list[str]:
        """`n` responses; raises `ValueError` if the function gives another number."""
        responses = await self._call(prompt, n)
        if len(responses) != n:
            raise ValueError(f"generate was asked for {n} responses and gave {len(responses)}")
        return list(responses)

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _call(self, prompt: Prompt, n: int) -> Sequence[str]:
        if iscoroutinefunction(self._generate) or iscoroutinefunction(
            getattr(self._generate, "__call__", None)  # noqa: B004 - an object with async __call__
        ):
            made: Any = self._generate(prompt, n)
        else:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(self._thread, self._generate, prompt, n)
        responses: Sequence[str] = await made if isawaitable(made) else made
        return responses


class OpenAIGenerator:
    """Responses from a chat server that speaks OpenAI's protocol (vLLM, SGLang, TGI, OpenAI)."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        **sampling: Any,
    ) -> None:
        """`base_url` ends where `/chat/completions` begins, usually with `/v1`.

        `sampling` goes into the body as it is: `temperature=1.0, max_tokens=512`. The key defaults
        to `OPENAI_API_KEY`.
        """
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._body = {"model": model, **sampling}
        self._key = api_key or os.environ.get("OPENAI_API_KEY")
        self._timeout_s = timeout_s

    async def __call__(self, prompt: Prompt, n: int) -> list[str]:
        messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
        body = {**self._body, "messages": messages, "n": n}
        async for attempt in attempts(3):
            with attempt:
                return _contents(await self._post(body))
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, body: dict[str, Any]) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else None
        async with httpx2.AsyncClient(timeout=self._timeout_s, headers=headers) as client:
            try:
                answer = await client.post(self._url, json=body)
            except httpx2.TransportError as error:
                kind = type(error).__name__
                raise ConnectionFailed(f"no answer from {self._url}: {kind}") from error
        if not answer.is_success:
            status = answer.status_code
            raise from_status(status)(f"{self._url} was answered with status {status}")
        return answer


def _contents(answer: httpx2.Response) -> list[str]:
    try:
        return [choice["message"]["content"] for choice in answer.json()["choices"]]
    except (KeyError, TypeError, ValueError):
        raise InvalidResponse("the answer is not a list of chat completions") from None


def transformers_generator(model: Any, tokenizer: Any, **sampling: Any) -> Generate:
    """Responses from a transformers model in this process.

    `sampling` goes to `model.generate`: `max_new_tokens=256, temperature=1.0`.
    """

    def generate(prompt: Prompt, n: int) -> list[str]:
        messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        made = model.generate(**inputs, do_sample=True, num_return_sequences=n, **sampling)
        responses = made[:, inputs["input_ids"].shape[1] :]
        decoded: list[str] = tokenizer.batch_decode(responses, skip_special_tokens=True)
        return decoded

    return generate
