"""What the routes share: who calls, what they sent, and the way through the queue. HTTP in, refusals out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from refsynth.core.errors import RefsynthError
from refsynth.core.labelset import join_labels
from refsynth.core.marks import MarkError, read_marks, spans_in
from refsynth.core.pair import DIVIDER, join_pair, split_pair
from refsynth.core.spans import Span, join_spans
from refsynth.serve.auth import Scope
from refsynth.serve.batching import AbandonedError, Batch, Batcher, QueueFullError, RowError
from refsynth.serve.engine import Answer, Engine, Loaded, Question
from refsynth.serve.errors import (
    Compressed,
    Forbidden,
    Gone,
    Invalid,
    Late,
    OverQuota,
    TooLarge,
    TooSlow,
    Unauthorised,
    Unavailable,
)
from refsynth.serve.health import Health
from refsynth.serve.metrics import Metrics
from refsynth.serve.outside import Outside
from refsynth.serve.schema import FeedbackRequest
from refsynth.serve.seams import Caller, Guards, Served
from refsynth.serve.settings import Settings

Body = TypeVar("Body", bound=BaseModel)

EXPECTED = {
    "label": "one label",
    "labels": "a list of all labels that the text has",
    "marked": "the text with all that is in it marked, [Ann Lee](person) called",
}
"""What feedback gives, by the form of the bundle's answers."""
SWALLOWED = 4
"""A body that is too large is read on for this many times the limit: a client that is still sending cannot read a reply."""


class Service:
    """One worker's engine, queue, health, metrics and guards. Made inside the event loop.

    Args:
        settings: limits and times.
        loaded: the bundle.
        guards: who may call, and what is kept.
        beat: is called while the model answers its canary.
    """

    def __init__(self, settings: Settings, loaded: Loaded, guards: Guards, *, beat: Callable[[], None] = lambda: None) -> None:
        self.settings, self.guards = settings, guards
        self.engine = Engine(loaded, pressed=lambda: self.batcher.pressed)
        self.metrics = Metrics()
        self.metrics.model(loaded)
        self.batcher: Batcher[Question, Answer] = Batcher(
            self.engine.run,
            batch_rows=settings.batch_rows,
            batch_cost=settings.batch_tokens,
            queue_rows=settings.queue_rows,
            longest_wait=settings.deadline / 2,  # the other half is for what arrives together and for noise
            observe=self._observe,
        )
        self.health = Health(self.batcher, self.engine, patience=settings.hang, beat=beat)
        self.outside = Outside(guards.recorder, self.metrics)

    def switch(self, loaded: Loaded) -> None:
        """Serve another bundle from the next batch on."""
        self.engine.switch(loaded)
        self.metrics.model(loaded)

    async def close(self) -> None:
        """End the queue and what is kept. Whoever still waits gets no answer."""
        await self.health.close()
        await self.batcher.close()
        await asyncio.to_thread(self.guards.recorder.close)
        await self.outside.close()
        if self.guards.tracer is not None:
            await asyncio.to_thread(self.guards.tracer.close)

    def authorise(self, request: Request, scope: Scope) -> Caller:
        """Return the caller's key.

        Raises:
            Unauthorised: there is none, or it is not valid.
            Forbidden: it lacks the scope.
            Unavailable: keys cannot be checked now.
        """
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        given = presented.strip() if scheme.lower() == "bearer" else ""
        try:
            key = self.guards.keys.check(given or None)
        except RefsynthError as error:
            raise Unavailable("keys cannot be checked now", code="keys_unavailable", retry_after=1) from error
        if key is None:
            raise Unauthorised("a valid API key is needed: Authorization: Bearer KEY")
        request.scope["key"] = key.id
        if scope not in key.scopes:
            raise Forbidden(f"this key lacks the scope '{scope}'")
        return key

    async def read(self, request: Request, schema: type[Body]) -> Body:
        """Return the body.

        Raises:
            ServeError: it is too large, too slow, compressed or not what the schema says.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Compressed("compressed bodies are not read; send plain JSON")
        try:
            async with asyncio.timeout_at(request.scope["deadline"]):
                content = await _content(request, self.settings.body_bytes)
        except TimeoutError as error:
            raise TooSlow("the body did not arrive in time", hang_up=True) from error
        except ClientDisconnect as error:
            raise Gone("the client hung up") from error
        try:
            return schema.model_validate_json(content)
        except ValidationError as error:
            raise Invalid(_explain(error, schema)) from error

    def text(self, given: str | list[str], place: str) -> str:
        """Return what a request gave as a text, as the bundle takes it: a pair as one text.

        Raises:
            ServeError: it is a pair for a bundle of single texts, or the other way round.
        """
        pairs = self.engine.current.model.manifest.task == "pairs"
        if pairs and isinstance(given, list) and len(given) == 2 and all(half.strip() for half in given):
            return join_pair(*given)
        if isinstance(given, list) or (pairs and split_pair(given) is None):
            expected = (
                f"[first, second], or one text with {DIVIDER} between them" if pairs else "a text: the bundle labels no pairs"
            )
            raise Invalid(f"{place}: expected {expected}")
        return given

    def right(self, body: FeedbackRequest) -> str:
        """Return the label that feedback gives; several, or entities, as one, as they are recorded.

        Raises:
            ServeError: it gives none that the bundle knows, or another form of answer than the bundle does.
        """
        model = self.engine.current.model
        answers = model.manifest.answers
        wanted = "marked" if answers.spans else "labels" if answers.several else "label"
        given = {name for name in ("label", "labels", "marked") if getattr(body, name) is not None}
        if given != {wanted}:
            raise Invalid(f"{wanted}: expected {EXPECTED[wanted]}, and neither of the other two")
        found = _spans(body.marked) if body.marked is not None else []
        named = {body.label} if body.label is not None else {*(body.labels or ()), *(span.label for span in found)}
        if not named <= set(model.labels):
            raise Invalid(f"{wanted}: the model has no such label; /v1/models lists them")
        if answers.spans:
            return join_spans(found)
        return join_labels(body.labels, model.labels) if body.labels is not None else str(body.label)

    def admit(self, request: Request, key: Caller, texts: Sequence[str]) -> None:
        """Check sizes and quota of texts to be answered.

        Raises:
            ServeError: there are none, too many or too long ones, or the key is over its quota.
        """
        request.scope["texts"] = len(texts)
        if not texts:
            raise Invalid("texts: found none, expected at least one")
        if len(texts) > self.settings.texts:
            raise TooLarge(f"{len(texts)} texts; the limit is {self.settings.texts} a request")
        for row, text in enumerate(texts):
            if len(text) > self.settings.characters:
                raise TooLarge(f"text {row} has {len(text):,} characters; the limit is {self.settings.characters:,}")
        wait = self.guards.limiter.take(key.id, len(texts))
        if wait > 0:
            self.metrics.refused("quota")
            raise OverQuota("this key is over its quota", retry_after=wait)

    async def ask(self, request: Request, questions: Sequence[Question]) -> list[Answer | RowError]:
        """Return an answer for each question; a caller that hangs up leaves the queue at once.

        Raises:
            ServeError: the queue is full, the deadline passed or the client is gone.
        """
        costs = [self.engine.cost(question.text) for question in questions]
        gone = asyncio.create_task(_hang_up(request))
        try:
            answers = await self.batcher.submit(questions, costs, deadline=request.scope["deadline"], gone=gone)
        except AbandonedError as error:
            raise Gone("the client hung up") from error
        except QueueFullError as error:
            self.metrics.refused("queue")
            raise Unavailable("the queue is full", retry_after=error.wait) from error
        except TimeoutError as error:
            self.metrics.refused("deadline")
            raise Late(f"no answer within {self.settings.deadline:g} s") from error
        finally:
            gone.cancel()
        for answer in answers:
            if isinstance(answer, RowError):
                self.metrics.failed(self.engine.current.model.variant)
        return answers

    def keep(self, request: Request, key: Caller, texts: Sequence[str], answers: Sequence[Answer | RowError]) -> None:
        """Count what was answered, and give it to the recorder."""
        for answer in answers:
            if not isinstance(answer, RowError):
                self.metrics.answer(answer)
        recorder = self.guards.recorder
        if not recorder.enabled:
            return
        recorder.predictions(
            [
                Served(
                    request_id=request.scope["request_id"],
                    row=row,
                    key=key.id,
                    label=answer.prediction.label,
                    probability=answer.prediction.probability,
                    abstain=answer.prediction.abstain,
                    tier=answer.tier,
                    version=answer.version,
                    text=text if recorder.texts else None,
                )
                for row, (text, answer) in enumerate(zip(texts, answers, strict=True))
                if not isinstance(answer, RowError)
            ]
        )

    def _observe(self, batch: Batch) -> None:
        self.metrics.batch(batch)
        self.metrics.queued.set(self.batcher.queued)


def _spans(marked: str) -> Sequence[Span]:
    try:
        read = read_marks(marked)
        return spans_in(read.text, read.places).spans
    except MarkError as error:
        raise Invalid(f"marked: {error}") from error


async def _content(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdecimal() else 0
    found: list[bytes] = []
    if size > SWALLOWED * limit:
        raise TooLarge(f"a body of {size:,} bytes; the limit is {limit:,}", hang_up=True)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            found.append(chunk)
        elif size > SWALLOWED * limit:
            break
    if size > limit:
        raise TooLarge(f"the body is larger than {limit:,} bytes", hang_up=True)
    return b"".join(found)


async def _hang_up(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """Return the first problem without what was sent, not even the name of a field that is none."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if problem["type"] == "extra_forbidden":
        return f"a field that is not known; there are {', '.join(schema.model_fields)}"
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
