"""EndpointGenerator: a reference behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, hosted ones).

It uses `/completions`, and `/chat/completions` where that is missing. Whether the same seed gives the same text is up to the
server; the caller keeps what was answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from refsynth.core.errors import EndpointError
from refsynth.core.run import derive_seed
from refsynth.core.types import Completion, FloatArray, Prompt
from refsynth.models.reference.client import Budget, JsonClient, Post, Refusal
from refsynth.models.reference.seam import completion_of, continuation

_NO_SUCH_ROUTE = (404, 405, 501)
_SPEAKS = "is this an OpenAI-compatible server, with /v1 in the address?"


class PartialAnswerError(EndpointError):
    """A batch of which some prompts were answered: `answered` holds those by the prompt's place, for the caller to keep."""

    def __init__(self, error: EndpointError, answered: Mapping[int, list[Completion]]) -> None:
        super().__init__(error.found, expected=error.expected, known=error.known, remedy=error.remedy)
        self.answered = dict(answered)


class EndpointGenerator:
    """A server's model with its decoding settings."""

    def __init__(
        self,
        endpoint: str,
        *,
        model: str,
        key: str | None = None,
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
            key: sent as a bearer token; it appears in no message, log or name.
            concurrency: requests under way at once.
            timeout: seconds to wait for one answer.
            retries: further tries after a timeout, a dropped connection, 429 or 5xx.
            max_requests: the most requests to send, retries included.
            temperature: of the sampling.
            top_p: the nucleus.
            max_tokens: the longest completion.
            stop: where a completion ends; it is not part of it.

        Raises:
            EndpointError: the address or the key cannot be used.
            ExtraError: the extra `train` is not installed.
        """
        self._model, self._concurrency, self._stop = model, concurrency, stop
        self._budget = Budget(max_requests)
        self._client = JsonClient(
            endpoint, key=key, timeout=timeout, retries=retries, concurrency=concurrency, budget=self._budget
        )
        self._decoding = {"model": model, "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        if stop:
            self._decoding["stop"] = [stop]
        self._chat = False

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return f"endpoint:{self._model}"

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` completions for each prompt.

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
        with self._client.connect() as post, ThreadPoolExecutor(self._concurrency) as pool:
            return np.asarray(list(pool.map(lambda pair: self._score(post, *pair), pairs)), dtype=np.float64)

    def _ask(self, post: Post, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """Return `n` completions; a server that ignores `n` is asked again until it has given as many."""
        rows: list[Completion] = []
        while len(rows) < n:
            if rows:
                self._budget.take(1)
            body = {**self._decoding, "n": n - len(rows), "seed": derive_seed(seed, len(rows))}
            rows += self._complete(post, prompt.text, body)
        return rows[:n]

    def _complete(self, post: Post, prompt: str, body: dict[str, Any]) -> list[Completion]:
        if not self._chat:
            try:
                return self._completions(post("completions", {**body, "prompt": prompt}))
            except Refusal as error:
                if error.status not in _NO_SUCH_ROUTE:
                    raise
            self._budget.take(1)
        message = {"role": "user", "content": prompt}
        rows = self._completions(post("chat/completions", {**body, "messages": [message]}))
        self._chat = True  # only once it has answered: a 404 may also mean that the model is not known
        return rows

    def _completions(self, answer: Any) -> list[Completion]:
        rows = []
        for choice in self._choices(answer):
            message = choice.get("message")
            text = message.get("content") if isinstance(message, dict) else choice.get("text")
            if not isinstance(text, str):
                raise self._nonsense("a choice without text")
            rows.append(completion_of(text, stop=self._stop, finished=choice.get("finish_reason") != "length"))
        return rows

    def _score(self, post: Post, prompt: Prompt, text: str) -> float:
        whole = prompt.text + continuation(prompt.text, text)
        if len(whole) == len(prompt.text):
            return float("nan")
        body = {"model": self._model, "prompt": whole, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        try:
            answer = post("completions", body)
        except Refusal as error:
            if error.status in (400, 422, *_NO_SUCH_ROUTE):
                raise self._cannot_score() from error
            raise
        choice = next(self._choices(answer))
        logprobs = choice.get("logprobs")
        if not isinstance(logprobs, dict) or not str(choice.get("text", "")).startswith(whole):
            raise self._cannot_score()
        return self._mean(logprobs, len(prompt.text), len(whole))

    def _mean(self, logprobs: Mapping[str, Any], start: int, end: int) -> float:
        """Return the mean over the tokens that reach into characters [start, end)."""
        values, offsets = logprobs.get("token_logprobs"), logprobs.get("text_offset")
        if not isinstance(values, list) or not isinstance(offsets, list) or len(values) != len(offsets):
            raise self._cannot_score()
        bounds = [*offsets[1:], end]
        try:
            held = [
                float(value)
                for value, begin, stop in zip(values, offsets, bounds, strict=True)
                if value is not None and begin < end and stop > start
            ]
        except (TypeError, ValueError) as error:
            raise self._nonsense("log-probabilities that are not numbers") from error
        if not held:
            raise self._cannot_score()
        return sum(held) / len(held)

    def _choices(self, answer: Any) -> Iterator[dict[str, Any]]:
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
            raise self._nonsense("no choices")
        return iter(choices)

    def _nonsense(self, what: str) -> EndpointError:
        return EndpointError(f"{self._client.host}: answered with {what}", remedy=_SPEAKS)

    def _cannot_score(self) -> EndpointError:
        return EndpointError(
            f"{self._client.host}: this server cannot score texts (no log-probabilities of an echoed prompt)",
            remedy="use a server that can, such as vLLM, or a filter that needs no scores from the reference",
        )


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
