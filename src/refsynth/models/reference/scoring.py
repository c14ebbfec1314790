"""Scores of texts from a server: log-probabilities of an echoed prompt, by the completions route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.core.errors import EndpointError
from refsynth.core.types import Prompt
from refsynth.models.reference.client import Post, RequestRefused
from refsynth.models.reference.continuation import continuation
from refsynth.models.reference.reply import NO_SUCH_ROUTE, choices_of, nonsense


def score_of(post: Post, host: str, model: str, prompt: Prompt, text: str) -> float:
    """Return the mean log P per token of a text after its prompt, in nats; NaN for a text without tokens.

    Raises:
        EndpointError: the server does not answer, or cannot score.
    """
    whole = prompt.text + continuation(prompt.text, text)
    if len(whole) == len(prompt.text):
        return float("nan")
    body = {"model": model, "prompt": whole, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    try:
        answer = post("completions", body)
    except RequestRefused as error:
        if error.status in (400, 422, *NO_SUCH_ROUTE):
            raise cannot_score(host) from error
        raise
    choice = choices_of(answer, host)[0]
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict) or not str(choice.get("text", "")).startswith(whole):
        raise cannot_score(host)
    return _mean(logprobs, len(prompt.text), len(whole), host)


def cannot_score(host: str) -> EndpointError:
    """Return the error for a server that returns no log-probabilities."""
    return EndpointError(
        f"{host}: this server cannot score texts (no log-probabilities of an echoed prompt)",
        remedy="use a server that can, such as vLLM, or a filter that needs no scores from the reference",
    )


def _mean(logprobs: Mapping[str, Any], start: int, end: int, host: str) -> float:
    """Return the mean over the tokens that overlap the characters [start, end)."""
    values, offsets = logprobs.get("token_logprobs"), logprobs.get("text_offset")
    if not isinstance(values, list) or not isinstance(offsets, list) or len(values) != len(offsets):
        raise cannot_score(host)
    try:
        logs = [
            float(value)
            for value, begin, stop in zip(values, offsets, [*offsets[1:], end], strict=True)
            if value is not None and begin < end and stop > start
        ]
    except (TypeError, ValueError) as error:
        raise nonsense(host, "log-probabilities that are not numbers") from error
    if not logs:
        raise cannot_score(host)
    return sum(logs) / len(logs)
