"""EndpointGenerator: a reference behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, hosted ones).

A model that is spoken to is asked for several texts in one message; another continues a list. Whether the same seed gives the
same text is up to the server; the caller keeps what was answered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from refsynth.core.errors import EndpointError
from refsynth.core.run import derive_seed
from refsynth.core.types import Completion, FloatArray, Prompt
from refsynth.models.reference.client import JsonClient, Post, RequestBudget, RequestRefused
from refsynth.models.reference.probe import ROUTES, Api
from refsynth.models.reference.reply import continued, spoken
from refsynth.models.reference.scoring import score_of

TRIES = 3
"""Messages for one prompt at most: a chat model that gives fewer texts than asked for is asked for the rest."""

ROOM = 64
"""Tokens of a chat answer beyond its texts: numbers, and words around them."""

_OTHERWISE: Mapping[str, str | None] = {
    "max_tokens": "max_completion_tokens",
    "temperature": None,
    "top_p": None,
    "seed": None,
    "stop": None,
}
"""What some models do not take, and what they take instead."""


class PartialAnswerError(EndpointError):
    """A batch of which some prompts were answered: `answered` holds those by the prompt's place, for the caller to keep."""

    def __init__(self, error: EndpointError, answered: Mapping[int, list[Completion]]) -> None:
        super().__init__(error.found, expected=error.expected, known=error.known, remedy=error.remedy)
        self.answered = dict(answered)


class EndpointGenerator:
    """A server's model with its decoding settings. `chats` tells that it is spoken to."""

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
        stop: str = "\n",
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            endpoint: base address, with `/v1`.
            model: the model's name there.
            api: whether it is spoken to or continues prompts; `probe.probe` finds out which it can.
            key: sent as a bearer token; it appears in no message, log or name.
            key_env: the variable that the key is from, for messages.
            concurrency: requests under way at once.
            timeout: seconds to wait for one answer.
            retries: further tries after a timeout, a dropped connection, 429 or 5xx.
            max_requests: the most requests to send, retries included.
            temperature: of the sampling.
            top_p: the nucleus.
            max_tokens: the longest text.
            stop: where a completion ends; it is not part of it.

        Raises:
            EndpointError: the address or the key cannot be used.
            ExtraError: the extra `train` is not installed.
        """
        self._model, self._api, self._concurrency, self._stop, self._longest = model, api, concurrency, stop, max_tokens
        self._budget = RequestBudget(max_requests)
        self._client = JsonClient(endpoint, key=key, timeout=timeout, retries=retries, budget=self._budget, key_env=key_env)
        self._decoding = {"model": model, "temperature": temperature, "top_p": top_p}
        self._untaken: set[str] = set()

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return f"endpoint:{self._model}"

    @property
    def chats(self) -> bool:
        """Whether it reads the chat form of a prompt."""
        return self._api == "chat"

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` completions for each prompt; of a model that is spoken to fewer, if it will not give as many.

        Raises:
            BudgetError: the budget does not cover one request per prompt; nothing was sent then.
            PartialAnswerError: a prompt could not be answered; the others' answers are in it.
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
        """Return up to `n` texts out of lists; a refusal ends the asking, and so does an answer without texts."""
        rows: list[Completion] = []
        for turn in range(TRIES):
            if turn:
                self._budget.take(1)
            wanted = n - len(rows)
            body = {"seed": derive_seed(seed, turn), "max_tokens": wanted * self._longest + ROOM}
            said = spoken(self._send(post, prompt.message(wanted), body), self._client.host, wanted=wanted)[0]
            rows += said
            if len(rows) >= n or not said or said[-1].refused:
                break
        return rows[:n]

    def _each(self, post: Post, text: str, n: int, seed: int) -> list[Completion]:
        """Return `n` texts, one a choice; a server that ignores `n` is asked again until it has given as many."""
        rows: list[Completion] = []
        asked = 0
        while asked < n:
            if asked:
                self._budget.take(1)
            body = {"n": n - asked, "seed": derive_seed(seed, asked), "max_tokens": self._longest}
            if self.chats:
                choices = spoken(self._send(post, text, body), self._client.host)
                rows += [choice[0] for choice in choices if choice]
                asked += len(choices)
            else:
                stop = {"stop": [self._stop]} if self._stop else {}
                some = continued(self._send(post, text, body | stop), self._client.host, stop=self._stop)
                rows += some
                asked += len(some)
        return rows[:n]

    def _send(self, post: Post, text: str, body: dict[str, Any]) -> Any:
        """Return the reply to a text; what the model is found not to take is left out, from then on."""
        said = {"messages": [{"role": "user", "content": text}]} if self.chats else {"prompt": text}
        while True:
            untaken = frozenset(self._untaken)
            try:
                return post(ROUTES[self._api], _without({**self._decoding, **body}, untaken) | said)
            except RequestRefused as error:
                found = _named(error) if error.status in (400, 422) else None
                if found is None or found in untaken:
                    raise
                self._untaken.add(found)
                self._budget.take(1)


def _without(body: dict[str, Any], untaken: frozenset[str]) -> dict[str, Any]:
    kept = {name: value for name, value in body.items() if name not in untaken}
    instead = {other: body[name] for name in untaken if name in body and (other := _OTHERWISE[name])}
    return kept | instead


def _named(error: RequestRefused) -> str | None:
    """Return the setting that a server says it does not take."""
    quoted = re.findall(r"['\"`](\w+)['\"`]", error.about)
    return next((name for name in quoted if name in _OTHERWISE), None)


def _gather(futures: Sequence[Future[list[Completion]]]) -> list[list[Completion]]:
    """Return all results, or raise the first error with the results there are."""
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
