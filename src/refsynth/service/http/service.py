"""What the routes share: who calls, what they sent, and the way through the queue. HTTP in, refusals out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from fastapi import Request

from refsynth.core.errors import RefsynthError
from refsynth.core.labelset import join_labels
from refsynth.core.marks import MarkError, read_marks, spans_in
from refsynth.core.spans import Span, join_spans
from refsynth.data.labels import as_label
from refsynth.service.http.auth import Scope
from refsynth.service.http.batching import AbandonedError, Batcher, BatchFigures, QueueFullError, RowError
from refsynth.service.http.bodies import SWALLOWED, Body, read_body
from refsynth.service.http.dependencies import DependencyWatch
from refsynth.service.http.engine import Answer, Engine, LoadedBundle, Question
from refsynth.service.http.errors import Forbidden, Gone, Invalid, Late, OverQuota, TooLarge, Unauthorised, Unavailable
from refsynth.service.http.health import Health
from refsynth.service.http.interfaces import Caller, Guards, ServedText
from refsynth.service.http.metrics import Metrics
from refsynth.service.http.schema import FeedbackRequest
from refsynth.service.http.settings import Settings
from refsynth.service.http.shares import Shares
from refsynth.service.http.texts import EmptyText, read_text

EXPECTED = {
    "label": "one label",
    "labels": "a list of all labels that the text has",
    "marked": "the text with all that is in it marked, [Ann Lee](person) called",
}
"""What feedback gives, by the form of the bundle's answers."""
NO_LABEL = "{}: the model has no such label; /v1/models lists them"
BODY_BUDGET = 64 << 20
"""Bytes that all bodies under way of a worker may hold; a key may hold a quarter."""


class Service:
    """One worker's engine, queue, health, metrics and guards. Made inside the event loop.

    Args:
        settings: limits and times.
        loaded: the bundle.
        guards: who may call, and what is kept.
        beat: is called while the model answers its canary.
        failing: is called while it fails on it.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: LoadedBundle,
        guards: Guards,
        *,
        beat: Callable[[], None] = lambda: None,
        failing: Callable[[], None] = lambda: None,
    ) -> None:
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
        budget = max(BODY_BUDGET, 2 * SWALLOWED * settings.body_bytes)
        self.bodies = Shares(budget)
        self._open, self._sent = Shares(settings.requests, settings.key_requests), Shares(budget, budget // 4)
        self.health = Health(self.batcher, self.engine, patience=settings.hang, beat=beat, failing=failing)
        self.outside = DependencyWatch(guards.recorder, self.metrics)

    def switch(self, loaded: LoadedBundle) -> None:
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
            OverQuota: it has too many requests under way.
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
        if self.guards.keys.required:
            if not self._open.take(key.id):
                self.metrics.refused("busy")
                raise OverQuota("too many requests of this key are under way", code="key_busy", retry_after=1)
            request.scope["holder"] = key.id
        return key

    def release(self, scope: MutableMapping[str, Any]) -> None:
        """Give back what a request that is over held of its key's share."""
        if (holder := scope.get("holder")) is not None:
            self._open.give(holder)
            self._sent.give(holder, scope.get("sent", 0))

    async def read(self, request: Request, schema: type[Body]) -> Body:
        """Return the body.

        Raises:
            ServeError: it is too large, too slow, compressed or not what the schema says; or the key holds too much.
        """
        scope = request.scope

        def take(n: int) -> bool:
            taken = "holder" not in scope or self._sent.take(scope["holder"], n)
            scope["sent"] = scope.get("sent", 0) + n * taken
            return taken

        return await read_body(request, schema, limit=self.settings.body_bytes, take=take)

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
        if body.marked is not None:
            spans = _spans(body.marked)
            if not {span.label for span in spans} <= {*model.labels}:
                raise Invalid(NO_LABEL.format(wanted))
            return join_spans(spans)
        if body.label is not None:
            return self.known(body.label)
        return join_labels([self.known(name, "labels") for name in body.labels or ()], model.labels)

    def known(self, name: str, field: str = "label") -> str:
        """Return the bundle's label that a request names, by the rule for files.

        Raises:
            Invalid: it has none.
        """
        found = self.engine.current.model.manifest.known.find(as_label(name) or "")
        if found is None:
            raise Invalid(NO_LABEL.format(field))
        return found

    def texts(self, request: Request, given: Sequence[str | list[str]], field: str) -> list[str | EmptyText]:
        """Return what a field of a request gave as texts, as the bundle takes them; or why one is none.

        Raises:
            ServeError: there are none or too many; one is a pair for a bundle of single texts, or the other way round.
        """
        request.scope["texts"] = len(given)
        if not given:
            raise Invalid("texts: found none, expected at least one")
        if len(given) > self.settings.texts:
            raise TooLarge(f"{len(given)} texts; the limit is {self.settings.texts} a request")
        pairs = self.engine.current.model.manifest.pairs
        return [read_text(one, field.format(row), pairs=pairs) for row, one in enumerate(given)]

    async def admit(self, texts: Sequence[str | EmptyText], *, truncate: bool) -> None:
        """Check the lengths of texts to be answered.

        Raises:
            ServeError: one is too long.
        """
        for row, text in enumerate(texts):
            if isinstance(text, str) and len(text) > self.settings.characters:
                raise TooLarge(f"text {row} has {len(text):,} characters; the limit is {self.settings.characters:,}")
        if not truncate and (row := await asyncio.to_thread(self._cut, texts)) >= 0:
            raise TooLarge(f"text {row} is longer than what the model reads, and is not to be cut (truncate)", code="too_long")

    def _cut(self, texts: Sequence[str | EmptyText]) -> int:
        """Return the first text that the model would not read to its end; -1 where there is none."""
        model = self.engine.current.model
        return next((row for row, text in enumerate(texts) if isinstance(text, str) and model.truncates(text)), -1)

    def charge(self, key: Caller, n: int) -> None:
        """Take predictions, or what costs as much, from the quota of a key.

        Raises:
            OverQuota: it does not reach.
        """
        wait = self.guards.limiter.take(key.id, n)
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

    def keep(self, request: Request, key: Caller, texts: Sequence[str | EmptyText], answers: Sequence[Answer | RowError]) -> None:
        """Count what was answered, and give it to the recorder."""
        for answer in answers:
            if not isinstance(answer, RowError):
                self.metrics.answer(answer)
        recorder = self.guards.recorder
        if not recorder.enabled:
            return
        recorder.predictions(
            [
                ServedText(
                    request_id=request.scope["request_id"],
                    row=row,
                    key=key.id,
                    label=answer.prediction.label,
                    probability=answer.prediction.probability,
                    abstain=answer.prediction.abstain,
                    tier=answer.tier,
                    version=answer.version,
                    text=str(text) if recorder.texts else None,
                    none=answer.prediction.none,
                )
                for row, (text, answer) in enumerate(zip(texts, answers, strict=True))
                if not isinstance(answer, RowError)
            ]
        )

    def _observe(self, batch: BatchFigures) -> None:
        self.metrics.batch(batch)
        self.metrics.queued.set(self.batcher.queued)


def _spans(marked: str) -> Sequence[Span]:
    try:
        read = read_marks(marked)
        return spans_in(read.text, read.places).spans
    except MarkError as error:
        raise Invalid(f"marked: {error}") from error


async def _hang_up(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
