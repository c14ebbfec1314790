"""Probing a server with a few requests: which route answers, whether it can score texts, whether it has the model."""

from __future__ import annotations

from typing import Literal, NamedTuple

from refsynth.core.errors import EndpointError, nearest
from refsynth.core.types import Prompt
from refsynth.models.reference.client import JsonClient, Post, RequestRefused
from refsynth.models.reference.reply import NO_SUCH_ROUTE, continued, score_of, spoken

Api = Literal["chat", "completions"]
ROUTES: dict[Api, str] = {"chat": "chat/completions", "completions": "completions"}

SHOWN = 8
"""The most models that a message lists."""

_UNABLE = (400, 422, *NO_SUCH_ROUTE)


class ServerAbilities(NamedTuple):
    """The API of a server, whether it returns log-probabilities, and whether it lists the model (None: it lists no models)."""

    api: Api
    scores: bool
    listed: bool | None

    def line(self, host: str, model: str) -> str:
        """Return the abilities as a sentence."""
        how = "takes chat messages" if self.api == "chat" else "continues prompts"
        scores = "gives log-probabilities" if self.scores else "gives no log-probabilities"
        unlisted = "; the server does not list it, but answers" if self.listed is False else ""
        return f"{model} at {host} {how}, {scores}{unlisted}"


def probe(client: JsonClient, model: str, apis: tuple[Api, ...]) -> ServerAbilities:
    """Send a short request by each of the routes until one answers.

    Raises:
        EndpointError: no route answers; the server does not have the model; the key is missing or wrong.
    """
    with client.connect() as post:
        refusals: list[EndpointError] = []
        for api in apis:
            try:
                _ask(post, client.host, model, api)
            except RequestRefused as error:
                if error.status not in _UNABLE:
                    raise
                refusals.append(error)
            else:
                known = _models(post)
                return ServerAbilities(api, _scores(post, client.host, model), model in known if known else None)
        known = _models(post)
    if known and model not in known:
        more = f", ... ({len(known):,})" if len(known) > SHOWN else ""
        raise EndpointError(
            f"{client.host}: there is no model '{model}'",
            known=f"models there: {', '.join(known[:SHOWN])}{more}",
            remedy=nearest(model, known) or "correct reference.model in task.yaml",
        )
    raise refusals[0]


def _models(post: Post) -> list[str]:
    """Return the names of the models that the server lists; empty if it does not list models."""
    try:
        answer = post("models", None)
    except EndpointError:  # not every server has this route
        return []
    rows = answer.get("data") if isinstance(answer, dict) else None
    names = [row.get("id") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [name for name in names if isinstance(name, str)]


def _ask(post: Post, host: str, model: str, api: Api) -> None:
    if api == "chat":
        spoken(post(ROUTES[api], {"model": model, "messages": [{"role": "user", "content": "Say: hello"}]}), host)
    else:
        continued(post(ROUTES[api], {"model": model, "prompt": "Hello", "max_tokens": 1}), host)


def _scores(post: Post, host: str, model: str) -> bool:
    try:
        score_of(post, host, model, Prompt("Hello", ""), "there")
    except EndpointError:
        return False
    return True
