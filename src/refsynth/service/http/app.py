"""The HTTP interface: routes and their OpenAPI documentation. `service` does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from refsynth.core.errors import RefsynthError
from refsynth.core.kinds import TASK_KINDS
from refsynth.core.types import DIGITS
from refsynth.service.http import explain
from refsynth.service.http.batching import RowError
from refsynth.service.http.console import add_console
from refsynth.service.http.dialects import is_batch, prediction_json, tei_rows, tei_scores
from refsynth.service.http.engine import Answer, Question
from refsynth.service.http.errors import MEANINGS, ErrorBody, Failed, Invalid, NotFound, Unavailable
from refsynth.service.http.front import Front
from refsynth.service.http.interfaces import Caller, Outcome, UnknownRequestError
from refsynth.service.http.manual import add_manual
from refsynth.service.http.origin import Origins
from refsynth.service.http.replies import Endpoint, Json, add_errors, dispatch
from refsynth.service.http.schema import (
    ExplainReply,
    ExplainRequest,
    FeedbackReply,
    FeedbackRequest,
    LiveReply,
    ModelOut,
    ModelsReply,
    PredictReply,
    PredictRequest,
    ReadyReply,
    RecentFeedbackReply,
    StoredFeedbackOut,
    TeiRequest,
    TeiScore,
)
from refsynth.service.http.service import Service
from refsynth.service.http.settings import Settings
from refsynth.service.http.texts import EmptyText

PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts to find the prediction that feedback refers to."""
RECENT = 20
OPEN_STATUSES = (403,)
NO_RECORD = "this server keeps no record of its requests"
READ_STATUSES = (401, 403, 405, 429, 500, 503)
MODEL_STATUSES = (400, 401, 403, 405, 408, 413, 415, 422, 429, 500, 503, 504)


def build_app(service: Service) -> Front:
    """Return the application of one worker."""
    api = FastAPI(
        title="refsynth",
        version=version("refsynth"),
        description=_about(service.settings),
        docs_url=None,  # FastAPI's page loads scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=Json,
    )
    add_errors(api)
    hot = _add_predict(api, service)
    _add_explain(api, service)
    _add_feedback(api, service)
    _add_reading(api, service)
    add_console(api)
    add_manual(api, keyed=service.guards.keys.required)
    _document_keys(api, required=service.guards.keys.required)
    return Front(
        partial(dispatch, api, hot),
        routes=frozenset(str(getattr(route, "path", "")) for route in api.routes),
        health=service.health,
        metrics=service.metrics,
        full=lambda: service.batcher.full,
        limit=service.settings.requests,
        bodies=service.bodies,
        origins=None if service.guards.keys.required else Origins(service.settings.host, service.settings.allow_host),
        release=service.release,
        deadline=service.settings.deadline,
        log=service.settings.log_requests,
        tracer=service.guards.tracer,
    )


def _about(settings: Settings) -> str:
    return (
        "Labels for texts, with calibrated probabilities. "
        f"A request has at most {settings.most_texts:,} texts of at most {settings.characters:,} characters each, in a body of "
        f"at most {settings.body_bytes:,} bytes; otherwise the status is 413."
    )


def _add_predict(api: FastAPI, service: Service) -> dict[str, Endpoint]:
    """Add the prediction routes and return their endpoints by path."""

    async def answer(
        request: Request, key: Caller, texts: list[str | EmptyText], *, truncate: bool, whole: str = ""
    ) -> list[Answer | RowError]:
        """Return an answer per text; an empty text has its error as the answer.

        `whole` is the field to name when the request fails as a whole because one of its texts is empty.
        """
        await service.check_lengths(texts, truncate=truncate)
        filled = [text for text in texts if isinstance(text, str)]
        empty = next((row for row, text in enumerate(texts) if isinstance(text, EmptyText)), None)
        if empty is not None and (whole or not filled):
            raise Invalid(f"{whole or 'texts'}[{empty}]: {texts[empty]}")
        service.charge(key, len(filled))
        results = await service.ask(request, [Question(text) for text in filled])
        if all(isinstance(result, RowError) for result in results):
            raise Failed("the model failed on " + ("this text" if len(filled) == 1 else "every text"))
        remaining = iter(results)
        answers = [text if isinstance(text, EmptyText) else next(remaining) for text in texts]
        service.record(request, key, texts, answers)
        return answers

    @api.post("/v1/predict", **_documented(PredictReply, MODEL_STATUSES, PredictRequest))
    async def predict(request: Request) -> Response:
        """Label one text or many. A text that the model fails on gets an error in its place; the others are still answered."""
        key = service.authorize(request, "predict")
        body = await service.read(request, PredictRequest)
        rows = [body.texts] if isinstance(body.texts, str) else body.texts
        texts = service.texts(request, rows, "texts[{}]")
        answers = await answer(request, key, texts, truncate=body.truncate)
        predictions = [prediction_json(one, body) for one in answers]
        return Json({"request_id": request.scope["request_id"], "predictions": predictions})

    @api.post("/predict", **_documented(list[TeiScore] | list[list[TeiScore]], MODEL_STATUSES, TeiRequest))
    async def tei(request: Request) -> Response:
        """Label texts in the format of text-embeddings-inference, for its clients."""
        key = service.authorize(request, "predict")
        body = await service.read(request, TeiRequest)
        if body.raw_scores:
            raise Invalid("raw_scores: scores here are calibrated probabilities; leave it out")
        texts = service.texts(request, tei_rows(body), "inputs[{}]")
        answers = await answer(request, key, texts, truncate=body.truncate, whole="inputs")
        if any(isinstance(one, RowError) for one in answers):
            raise Failed("the model failed on a text")
        scores = [tei_scores(one.prediction) for one in answers if isinstance(one, Answer)]
        return Json(scores if is_batch(body) else scores[0])

    return {"/v1/predict": predict, "/predict": tei}


def _add_explain(api: FastAPI, service: Service) -> None:
    @api.post("/v1/explain", **_documented(ExplainReply, MODEL_STATUSES, ExplainRequest))
    async def explain_(request: Request) -> Response:
        """Show how much each part of a text speaks for a label.

        Exact for TF-IDF and static tiers; for encoders, measured by leaving each part out.
        """
        key = service.authorize(request, "explain")
        body = await service.read(request, ExplainRequest)
        (text,) = service.texts(request, [body.text], "text")
        await service.check_lengths([text], truncate=body.truncate)
        if isinstance(text, EmptyText):
            raise Invalid(f"text: {text}")
        model = service.engine.current.model
        if body.label is not None:
            body = body.model_copy(update={"label": service.known_label(body.label)})
        spans = [] if model.additive(text) else explain.spans(text)
        questions = [Question(text, True, body.label)]
        questions += [Question(explain.without(text, span)) for span in spans]
        service.charge(key, len(questions))
        answers = await service.ask(request, questions)
        service.metrics.explanations.inc()
        return Json(_explanation(request, body, answers, text, spans))


def _explanation(
    request: Request, body: ExplainRequest, results: list[Answer | RowError], text: str, spans: list[explain.TextPart]
) -> ExplainReply:
    answers = [result for result in results if isinstance(result, Answer)]
    if len(answers) < len(results):
        raise Failed("the model failed on this text, or on the text without one of its parts")
    whole = answers[0]
    if any(answer.version != whole.version for answer in answers):
        raise Unavailable("the bundle was switched during the explanation", code="switched", retry_after=1)
    label = body.label or whole.prediction.likeliest
    probability = whole.prediction.probabilities[label]
    if whole.contributions is not None:
        method, base, parts = "contributions", whole.contributions.base, explain.of_terms(whole.contributions)
    else:
        occluded = [answer.prediction.probabilities[label] for answer in answers[1:]]
        method, base, parts = "occlusion", 0.0, explain.of_spans(text, spans, probability, occluded)
    strongest, rest = explain.strongest(parts, body.top)
    return ExplainReply(
        request_id=request.scope["request_id"],
        label=label,
        probability=round(probability, DIGITS),
        method=method,
        base=base,
        parts=strongest,
        rest=rest,
        version=whole.version,
    )


def _add_feedback(api: FastAPI, service: Service) -> None:
    @api.post("/v1/feedback", **_documented(FeedbackReply, (404, *MODEL_STATUSES), FeedbackRequest))
    async def feedback(request: Request) -> Response:
        """Give the correct label, or labels, of a text of an earlier request. The reply comes when the feedback is on disk."""
        key = service.authorize(request, "feedback")
        body = await service.read(request, FeedbackRequest)
        recorder = service.guards.recorder
        if not recorder.enabled:
            raise NotFound(NO_RECORD, code="no_record")
        label = service.feedback_label(body)
        service.charge(key, 1)
        write = partial(recorder.feedback, request_id=body.request_id, row=body.row, label=label, key=key.id)
        try:
            outcome = await _written(write)
        except UnknownRequestError as error:
            raise NotFound(str(error), code="unknown_request") from error
        except RefsynthError as error:
            service.dependencies.failed("feedback", error)
            raise Unavailable("the feedback could not be written", code="record_unavailable", retry_after=1) from error
        return Json(FeedbackReply(request_id=body.request_id, row=body.row, outcome=outcome))

    @api.get("/v1/feedback", **_documented(RecentFeedbackReply, (404, *READ_STATUSES)))
    async def recent(request: Request) -> Response:
        """Show the latest feedback, newest first."""
        service.authorize(request, "admin")
        recorder = service.guards.recorder
        if not recorder.enabled:
            raise NotFound(NO_RECORD, code="no_record")
        try:
            rows = await asyncio.to_thread(recorder.recent, RECENT)
        except RefsynthError as error:
            service.dependencies.failed("reading", error)
            raise Unavailable("the record does not answer", code="record_unavailable", retry_after=1) from error
        return Json(RecentFeedbackReply(data=[StoredFeedbackOut(**row._asdict()) for row in rows]))


async def _written(write: Callable[[], Outcome]) -> Outcome:
    """Write feedback; retry while its prediction is unknown: workers write those in batches, so it may not be there yet."""
    for pause in PAUSES:
        try:
            return await asyncio.to_thread(write)
        except UnknownRequestError:
            await asyncio.sleep(pause)
    return await asyncio.to_thread(write)


def _add_reading(api: FastAPI, service: Service) -> None:
    @api.get("/v1/models", **_documented(ModelsReply, READ_STATUSES))
    async def models(request: Request) -> Response:
        """Show the bundle in use."""
        service.authorize(request, "predict")
        loaded = service.engine.current
        manifest = loaded.model.manifest
        model = ModelOut(
            id=loaded.version,
            kinds=[tier.kind for tier in manifest.tiers],
            task=manifest.task,
            labels_of=TASK_KINDS[manifest.task].labels,
            tier=loaded.model.variant,
            labels=list(loaded.model.labels),
            language=manifest.language,
            threshold=loaded.model.threshold,
            metrics={name: figure.value for name, figure in manifest.metrics.items()},
        )
        return Json(ModelsReply(data=[model]))

    @api.get("/health/live", **_documented(LiveReply, OPEN_STATUSES))
    async def live() -> Response:
        """Say that the process answers. Does not ask the model."""
        return Json(LiveReply())

    @api.get("/health/ready", **_documented(ReadyReply, OPEN_STATUSES, unready=ReadyReply))
    async def ready() -> Response:
        """Say whether to send requests here: the last canary was answered correctly, and the worker is not full or draining."""
        problems = service.health.problems()
        lacks = [*(["the second tier"] if service.engine.degraded else []), *service.dependencies.problems()]
        version = service.engine.current.version
        reply = ReadyReply(ready=not problems, problems=problems, degraded=bool(lacks), lacks=lacks, version=version)
        return Json(reply, status_code=503 if problems else 200, headers={"Retry-After": "1"} if problems else None)

    @api.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        """Return the Prometheus metrics of all workers."""
        if service.guards.keys.required:
            service.authorize(request, "admin")
        return Response(await asyncio.to_thread(service.metrics.text), media_type="text/plain; version=0.0.4; charset=utf-8")


def _documented(
    reply: Any, statuses: tuple[int, ...], body: type[BaseModel] | None = None, *, unready: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return the OpenAPI options of a route. FastAPI cannot derive them: handlers read the body themselves, after the key."""
    documented: dict[str, Any] = {"response_model": reply}
    documented["responses"] = {status: {"model": ErrorBody, "description": MEANINGS[status]} for status in statuses}
    if unready is not None:
        documented["responses"][503] = {"model": unready, "description": "Not ready; problems says why"}
    if body is not None:
        content = {"application/json": {"schema": body.model_json_schema()}}
        documented["openapi_extra"] = {"requestBody": {"required": True, "content": content}}
    return documented


def _document_keys(api: FastAPI, *, required: bool) -> None:
    if not required:
        return
    described = api.openapi()
    described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in described["paths"].items():
        if not path.startswith("/health/"):
            for operation in operations.values():
                operation["security"] = [{"key": []}]
