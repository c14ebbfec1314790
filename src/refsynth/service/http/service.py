"""What all routes share: authorize the caller, read and check the body, and ask the model through the queue."""

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
from refsynth.service.http.bodies import DISCARD_FACTOR, Body, read_body
from refsynth.service.http.dependencies import DependencyWatch
from refsynth.service.http.engine import Answer, Engine, LoadedBundle, Question
from refsynth.service.http.errors import Forbidden, Gone, Invalid, Late, OverQuota, TooLarge, Unauthorized, Unavailable
from refsynth.service.http.health import Health
from refsynth.service.http.interfaces import Caller, Guards, ServedText
from refsynth.service.http.metrics import Metrics
from refsynth.service.http.schema import FeedbackRequest
from refsynth.service.http.settings import Settings
from refsynth.service.http.shares import Shares
from refsynth.service.http.texts import EmptyText, read_text

EXPECTED = {
    "label": "one label",
    "labels": "a list of all labels of the text",
    "marked": "the text with every entity marked, as in [Ann Lee](person) called",
}
"""What each field of feedback must hold. Which field is expected depends on the bundle's task."""
NO_LABEL = "{}: the model has no such label; /v1/models lists them"
BODY_BUDGET = 64 << 20
"""Bytes that the request bodies of a worker may hold at once; those of one key may hold a quarter."""


class Service:
    """One worker's engine, queue, health, metrics and guards. Create it inside the event loop.

    Args:
        settings: limits and times.
        loaded: the bundle.
        guards: keys, quotas, record and tracer.
        beat: called while the model answers its canary.
        failing: called while the model fails on its canary.
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
            longest_wait=settings.deadline / 2,  # the other half absorbs bursts and noise
            observe=self._observe,
        )
        budget = max(BODY_BUDGET, 2 * DISCARD_FACTOR * settings.body_bytes)
        self.bodies = Shares(budget)
        self._open, self._sent = Shares(settings.requests, settings.key_requests), Shares(budget, budget // 4)
        self.health = Health(self.batcher, self.engine, patience=settings.hang, beat=beat, failing=failing)
        self.dependencies = DependencyWatch(guards.recorder, self.metrics)

    def switch(self, loaded: LoadedBundle) -> None:
        """Serve another bundle from the next batch on."""
        self.engine.switch(loaded)
        self.metrics.model(loaded)

    async def close(self) -> None:
        """Close the queue, the recorder and the tracer. Requests that still wait get no answer."""
        await self.health.close()
        await self.batcher.close()
        await asyncio.to_thread(self.guards.recorder.close)
        await self.dependencies.close()
        if self.guards.tracer is not None:
            await asyncio.to_thread(self.guards.tracer.close)

    def authorize(self, request: Request, scope: Scope) -> Caller:
        """Return the caller's key, and count the request as under way for it.

        Raises:
            Unauthorized: there is no key, or it is not valid.
            Forbidden: the key lacks the scope.
            Unavailable: keys cannot be checked now.
            OverQuota: the key has too many requests under way.
        """
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        presented = credentials.strip() if scheme.lower() == "bearer" else ""
        try:
            key = self.guards.keys.check(presented or None)
        except RefsynthError as error:
            raise Unavailable("keys cannot be checked now", code="keys_unavailable", retry_after=1) from error
        if key is None:
            raise Unauthorized("a valid API key is needed: Authorization: Bearer KEY")
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
        """Give back what a finished request held of its key's shares."""
        if (holder := scope.get("holder")) is not None:
            self._open.give(holder)
            self._sent.give(holder, scope.get("sent", 0))

    async def read(self, request: Request, schema: type[Body]) -> Body:
        """Return the validated body.

        Raises:
            ServeError: the body is too large, too slow, compressed or invalid, or bodies of this key hold too much.
        """
        scope = request.scope

        def take(n: int) -> bool:
            taken = "holder" not in scope or self._sent.take(scope["holder"], n)
            scope["sent"] = scope.get("sent", 0) + n * taken
            return taken

        return await read_body(request, schema, limit=self.settings.body_bytes, take=take)

    def feedback_label(self, body: FeedbackRequest) -> str:
        """Return the correct answer that feedback gives, as one string in the form in which it is recorded.

        Raises:
            ServeError: a label is unknown, or the field is not the one that the bundle's task needs.
        """
        model = self.engine.current.model
        answers = model.manifest.answers
        expected = "marked" if answers.words else "labels" if answers.several else "label"
        fields = {name for name in EXPECTED if getattr(body, name) is not None}
        if fields != {expected}:
            raise Invalid(f"{expected}: expected {EXPECTED[expected]}, and neither of the other two fields")
        if body.marked is not None:
            spans = _spans(body.marked)
            if not {span.label for span in spans} <= {*model.labels}:
                raise Invalid(NO_LABEL.format(expected))
            return join_spans(spans)
        if body.label is not None:
            return self.known_label(body.label)
        return join_labels([self.known_label(name, "labels") for name in body.labels or ()], model.labels)

    def known_label(self, name: str, field: str = "label") -> str:
        """Return the bundle's label that a request names. Spelling is matched as in files.

        Raises:
            Invalid: the bundle has no such label.
        """
        label = self.engine.current.model.manifest.known.find(as_label(name) or "")
        if label is None:
            raise Invalid(NO_LABEL.format(field))
        return label

    def texts(self, request: Request, rows: Sequence[str | list[str]], field: str) -> list[str | EmptyText]:
        """Return the rows of a request in the form that the bundle reads; an EmptyText stands for an empty row.

        Raises:
            ServeError: there are no rows or too many, or a row is a pair and the bundle takes single texts, or vice versa.
        """
        request.scope["texts"] = len(rows)
        if not rows:
            raise Invalid("texts: found none, expected at least one")
        if len(rows) > self.settings.most_texts:
            raise TooLarge(f"{len(rows)} texts; the limit is {self.settings.most_texts} per request")
        pairs = self.engine.current.model.manifest.pairs
        return [read_text(text, field.format(row), pairs=pairs) for row, text in enumerate(rows)]

    async def check_lengths(self, texts: Sequence[str | EmptyText], *, truncate: bool) -> None:
        """Refuse texts that are too long.

        Raises:
            ServeError: a text exceeds the limit, or the model would cut it and `truncate` is false.
        """
        for row, text in enumerate(texts):
            if isinstance(text, str) and len(text) > self.settings.characters:
                raise TooLarge(f"text {row} has {len(text):,} characters; the limit is {self.settings.characters:,}")
        if not truncate:
            cut = await asyncio.to_thread(self._first_cut, texts)
            if cut is not None:
                raise TooLarge(f"text {cut} is longer than the model reads, and truncate is false", code="too_long")

    def _first_cut(self, texts: Sequence[str | EmptyText]) -> int | None:
        """Return the row of the first text that the model would not read to its end; None if it reads all."""
        model = self.engine.current.model
        return next((row for row, text in enumerate(texts) if isinstance(text, str) and model.truncates(text)), None)

    def charge(self, key: Caller, n: int) -> None:
        """Take `n` texts from the quota of a key.

        Raises:
            OverQuota: the quota does not allow that many now.
        """
        wait = self.guards.limiter.take(key.id, n)
        if wait > 0:
            self.metrics.refused("quota")
            raise OverQuota("this key is over its quota", retry_after=wait)

    async def ask(self, request: Request, questions: Sequence[Question]) -> list[Answer | RowError]:
        """Return an answer for each question. If the client hangs up, its questions leave the queue at once.

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

    def record(
        self, request: Request, key: Caller, texts: Sequence[str | EmptyText], answers: Sequence[Answer | RowError]
    ) -> None:
        """Count the answers, and pass them to the recorder."""
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
        parsed = read_marks(marked)
        return spans_in(parsed.text, parsed.places).spans
    except MarkError as error:
        raise Invalid(f"marked: {error}") from error


async def _hang_up(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
