"""EndpointGenerator: a reference behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, hosted ones).

A chat model is asked for several texts in one message; another continues a list. Only some servers return the same text for the
same seed, so the caller keeps all answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from refsynth.core.errors import EndpointError
from refsynth.core.hashes import derive_seed
from refsynth.core.types import Completion, FloatArray, Prompt
from refsynth.models.reference.client import JsonClient, Post, RequestBudget, RequestRefused
from refsynth.models.reference.continuation import STOP
from refsynth.models.reference.probe import ROUTES, Api
from refsynth.models.reference.reply import continued, score_of, spoken

TRIES = 3
"""The most messages for one prompt: a chat model that returns too few texts is asked for the others."""

ROOM = 64
"""Tokens of a chat answer beyond its texts, for numbers and sentences around them."""

_OTHERWISE: Mapping[str, str | None] = {
    "max_tokens": "max_completion_tokens",
    "temperature": None,
    "top_p": None,
    "seed": None,
    "stop": None,
}
"""Settings that some models do not support, and the setting to use instead."""


class PartialAnswerError(EndpointError):
    """A prompt of a batch was not answered. `answered` has the completions of the others by place, for the caller to keep."""

    def __init__(self, error: EndpointError, answered: Mapping[int, list[Completion]]) -> None:
        super().__init__(error.found, expected=error.expected, known=error.known, remedy=error.remedy)
        self.answered = dict(answered)


class EndpointGenerator:
    """A server's model with its decoding settings. `chats` is true for a chat model."""

    def __init__(
        self,
        endpoint: str,
        *,
        model: str,
        api: Api = "completions",
        key: str | None = None,
        key_env: str = "reference.key_env",
        concurrency: int = 4,
        timeout: float = 60.0,
        retries: int = 4,
        max_requests: int | None = None,
        temperature: float = 1.0,
        top_p: float = 0.95,
        max_tokens: int = 64,
    ) -> None:
        """Check the address and the key. Nothing is sent. `EndpointReference` and `Decoding` describe the settings.

        The key is sent as a bearer token; it appears in no message, log or name.

        Raises:
            EndpointError: the address or the key cannot be used.
            ExtraError: the extra `train` is not installed.
        """
        self._model, self._api, self._concurrency, self._longest = model, api, concurrency, max_tokens
        self._budget = RequestBudget(max_requests)
        self._client = JsonClient(endpoint, key=key, timeout=timeout, retries=retries, budget=self._budget, key_env=key_env)
        self._decoding = {"model": model, "temperature": temperature, "top_p": top_p}
        self._unsupported: set[str] = set()

    @property
    def name(self) -> str:
        """The name in the provenance of drafts."""
        return f"endpoint:{self._model}"

    @property
    def chats(self) -> bool:
        """Whether it takes chat messages."""
        return self._api == "chat"

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` completions for each prompt; a chat model may return fewer.

        Raises:
            BudgetError: the budget does not cover one request per prompt; nothing was sent.
            PartialAnswerError: a prompt could not be answered; it has the completions of the others.
        """
        self._budget.take(len(prompts))
        with self._client.connect() as post, ThreadPoolExecutor(self._concurrency) as pool:
            futures = [pool.submit(self._ask, post, prompt, n, derive_seed(seed, index)) for index, prompt in enumerate(prompts)]
        return _gather(futures)

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return the mean log P per token of each text after its prompt, in nats: [N]; NaN for a text without tokens.

        Raises:
            EndpointError: the server cannot score (it must return `logprobs` of an echoed prompt).
        """
        pairs = list(zip(prompts, texts, strict=True))
        self._budget.take(len(pairs))

        def value(pair: tuple[Prompt, str]) -> float:
            return score_of(post, self._client.host, self._model, *pair)

        with self._client.connect() as post, ThreadPoolExecutor(self._concurrency) as pool:
            return np.asarray(list(pool.map(value, pairs)), dtype=np.float64)

    def _ask(self, post: Post, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        if self.chats and prompt.chat:
            return self._listed(post, prompt, n, seed)
        return self._each(post, prompt.text, n, seed)

    def _listed(self, post: Post, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """Return up to `n` texts from lists. A refusal or an answer without texts ends the requests."""
        rows: list[Completion] = []
        for turn in range(TRIES):
            if turn:
                self._budget.take(1)
            missing = n - len(rows)
            body = {"seed": derive_seed(seed, turn), "max_tokens": missing * self._longest + ROOM}
            texts = spoken(self._send(post, prompt.message(missing), body), self._client.host, wanted=missing)[0]
            rows += texts
            if len(rows) >= n or not texts or texts[-1].refused:
                break
        return rows[:n]

    def _each(self, post: Post, text: str, n: int, seed: int) -> list[Completion]:
        """Return `n` texts, one for each choice. Requests are repeated if the server ignores `n`."""
        rows: list[Completion] = []
        received = 0
        while received < n:
            if received:
                self._budget.take(1)
            body = {"n": n - received, "seed": derive_seed(seed, received), "max_tokens": self._longest}
            if self.chats:
                choices = spoken(self._send(post, text, body), self._client.host)
                rows += [choice[0] for choice in choices if choice]
                received += len(choices)
            else:
                completions = continued(self._send(post, text, {**body, "stop": [STOP]}), self._client.host)
                rows += completions
                received += len(completions)
        return rows[:n]

    def _send(self, post: Post, text: str, body: dict[str, Any]) -> Any:
        """Return the reply to a text. A setting that the server refuses is left out of this and all later requests."""
        content = {"messages": [{"role": "user", "content": text}]} if self.chats else {"prompt": text}
        while True:
            unsupported = frozenset(self._unsupported)
            try:
                return post(ROUTES[self._api], _without({**self._decoding, **body}, unsupported) | content)
            except RequestRefused as error:
                setting = _refused_setting(error) if error.status in (400, 422) else None
                if setting is None or setting in unsupported:
                    raise
                self._unsupported.add(setting)
                self._budget.take(1)


def _without(body: dict[str, Any], unsupported: frozenset[str]) -> dict[str, Any]:
    kept = {name: value for name, value in body.items() if name not in unsupported}
    return kept | {other: body[name] for name in unsupported if name in body and (other := _OTHERWISE[name])}


def _refused_setting(error: RequestRefused) -> str | None:
    quoted = re.findall(r"['\"`](\w+)['\"`]", error.about)
    return next((name for name in quoted if name in _OTHERWISE), None)


def _gather(futures: Sequence[Future[list[Completion]]]) -> list[list[Completion]]:
    """Return all results, or raise the first error with the results of the other futures."""
    answered: dict[int, list[Completion]] = {}
    failed: EndpointError | None = None
    for index, future in enumerate(futures):
        try:
            answered[index] = future.result()
        except EndpointError as error:
            failed = failed or error
    if failed is not None:
        raise PartialAnswerError(failed, answered) from failed
    return list(answered.values())
