"""The replies of an OpenAI-compatible server, checked: its choices as completions, and log-probabilities as scores of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.core.errors import EndpointError
from refsynth.core.types import Completion, Prompt
from refsynth.models.reference.answer import refuses, texts_of
from refsynth.models.reference.client import COMPATIBLE, Post, RequestRefused
from refsynth.models.reference.continuation import completion_of, continuation

NO_SUCH_ROUTE = (404, 405, 501)


def choices_of(answer: Any, host: str) -> list[dict[str, Any]]:
    """Return the choices of a reply, at least one.

    Raises:
        EndpointError: the reply has none.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not choices and isinstance(answer, dict) and answer.get("error"):  # some servers report errors with status 200
        error = answer["error"]
        message = error.get("message", "") if isinstance(error, dict) else error
        raise nonsense(host, f"an error: {' '.join(str(message).split())[:200]}")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise nonsense(host, "no choices")
    return choices


def continued(answer: Any, host: str) -> list[Completion]:
    """Return the completions in a reply to a prompt for the completions route.

    Raises:
        EndpointError: a choice has no text.
    """
    rows = []
    for choice in choices_of(answer, host):
        text = choice.get("text")
        if not isinstance(text, str):
            raise nonsense(host, "a choice without text")
        rows.append(completion_of(text, finished=choice.get("finish_reason") != "length"))
    return rows


def spoken(answer: Any, host: str, *, wanted: int = 1) -> list[list[Completion]]:
    """Return the texts of each choice in a reply to a chat message that asked for `wanted` texts; a refusal is one completion.

    Raises:
        EndpointError: a choice has no message.
    """
    rows = []
    for choice in choices_of(answer, host):
        message = choice.get("message")
        if not isinstance(message, dict) or (content := _content(message.get("content"))) is None:
            raise nonsense(host, "a choice without a message")
        refusal = str(message.get("refusal") or "")
        if refusal or choice.get("finish_reason") == "content_filter" or refuses(content, wanted):
            rows.append([Completion(refusal or content, finished=True, refused=True)])
            continue
        texts = [Completion(text, finished=True) for text in texts_of(content)]
        if texts and choice.get("finish_reason") == "length" and content.rstrip().endswith(texts[-1].text):
            texts[-1] = texts[-1]._replace(finished=False)
        rows.append(texts)
    return rows


def _content(content: Any) -> str | None:
    """Return the text of a message, which may be in parts; None if it is not text."""
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    content = content or ""
    return content if isinstance(content, str) else None


def nonsense(host: str, what: str) -> EndpointError:
    """Return the error for a server that answers in another form."""
    return EndpointError(f"{host}: answered with {what}", remedy=COMPATIBLE)


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
