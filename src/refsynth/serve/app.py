"""The HTTP interface: routes, their documentation, and every error in one form. The work is in `service`."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from refsynth.core.errors import RefsynthError
from refsynth.core.types import Prediction
from refsynth.serve import explain
from refsynth.serve.batching import RowError
from refsynth.serve.console import add_console
from refsynth.serve.engine import Answer, Question
from refsynth.serve.errors import MEANINGS, ErrorBody, Failed, Invalid, NotFound, Unavailable
from refsynth.serve.front import Front
from refsynth.serve.replies import Endpoint, Json, add_errors, dispatch
from refsynth.serve.schema import (
    ExplainReply,
    ExplainRequest,
    FeedbackReply,
    FeedbackRequest,
    GivenOut,
    GivenReply,
    LiveReply,
    ModelOut,
    ModelsReply,
    PredictReply,
    PredictRequest,
    ReadyReply,
    TeiRequest,
    TeiScore,
)
from refsynth.serve.seams import Caller
from refsynth.serve.service import Service

DIGITS = 6
RECENT = 20
NO_RECORD = "this server keeps no record of its requests"
READING = (401, 403, 405, 500, 503)
ASKING = (401, 403, 405, 408, 413, 415, 422, 429, 500, 503, 504)


def build_app(service: Service) -> Front:
    """Return the whole application of one worker."""
    api = FastAPI(
        title="refsynth",
        version=version("refsynth"),
        description="Labels for texts, with calibrated probabilities.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        default_response_class=Json,
    )
    add_errors(api)
    hot = _add_predict(api, service)
    _add_explain(api, service)
    _add_feedback(api, service)
    _add_reading(api, service)
    add_console(api)
    _document_keys(api, required=service.guards.keys.required)
    return Front(
        partial(dispatch, api, hot),
        routes=frozenset(str(getattr(route, "path", "")) for route in api.routes),
        health=service.health,
        metrics=service.metrics,
        full=lambda: service.batcher.full,
        limit=service.settings.requests,
        deadline=service.settings.deadline,
        log=service.settings.log_requests,
        tracer=service.guards.tracer,
    )


def _add_predict(api: FastAPI, service: Service) -> dict[str, Endpoint]:
    """Add the routes, and return them by path."""

    async def answer(request: Request, key: Caller, texts: list[str]) -> list[Answer | RowError]:
        service.admit(request, key, texts)
        answers = await service.ask(request, [Question(text) for text in texts])
        if all(isinstance(answer, RowError) for answer in answers):
            raise Failed("the model failed on " + ("this text" if len(texts) == 1 else "every text"))
        service.keep(request, key, texts, answers)
        return answers

    @api.post("/v1/predict", **_documented(PredictReply, ASKING, PredictRequest))
    async def predict(request: Request) -> Response:
        """Label one text or many. A text that the model fails on gets an error in its place and does not harm the others."""
        key = service.authorise(request, "predict")
        body = await service.read(request, PredictRequest)
        given = [body.texts] if isinstance(body.texts, str) else body.texts
        answers = await answer(request, key, [service.text(one, f"texts[{row}]") for row, one in enumerate(given)])
        shown = [_prediction(one, body) for one in answers]
        return Json({"request_id": request.scope["request_id"], "predictions": shown})

    @api.post("/predict", **_documented(list[TeiScore] | list[list[TeiScore]], ASKING, TeiRequest))
    async def tei(request: Request) -> Response:
        """Label texts in the form of text-embeddings-inference, for clients that speak it."""
        key = service.authorise(request, "predict")
        body = await service.read(request, TeiRequest)
        if body.raw_scores:
            raise Invalid("raw_scores: scores here are calibrated probabilities; leave it out")
        answers = await answer(request, key, [service.text(one, f"inputs[{row}]") for row, one in enumerate(_tei_rows(body))])
        if any(isinstance(one, RowError) for one in answers):
            raise Failed("the model failed on a text")
        scores = [_scores(one.prediction) for one in answers if isinstance(one, Answer)]
        return Json(scores if _is_batch(body) else scores[0])

    return {"/v1/predict": predict, "/predict": tei}


def _tei_rows(body: TeiRequest) -> list[str | list[str]]:
    """Return the rows of a request; a list of one text is that text."""
    if isinstance(body.inputs, str):
        return [body.inputs]
    rows = [row for row in body.inputs if isinstance(row, list)] or [[text for text in body.inputs if isinstance(text, str)]]
    return [row[0] if len(row) == 1 else row for row in rows]


def _is_batch(body: TeiRequest) -> bool:
    return isinstance(body.inputs, list) and bool(body.inputs) and isinstance(body.inputs[0], list)


def _ranked(prediction: Prediction) -> list[tuple[str, float]]:
    pairs = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
    return [(label, round(value, DIGITS)) for label, value in pairs]


def _scores(prediction: Prediction) -> list[dict[str, Any]]:
    return [{"score": value, "label": label} for label, value in _ranked(prediction)]


def _prediction(answer: Answer | RowError, body: PredictRequest) -> dict[str, Any]:
    if isinstance(answer, RowError):
        return {"error": {"code": "prediction_failed", "message": answer.found}}
    prediction = answer.prediction
    return {
        **_said(prediction),
        "probability": round(prediction.probability, DIGITS),
        "probabilities": dict(_ranked(prediction)[: body.top_k]) if body.probabilities else None,
        "abstain": prediction.abstain,
        "tier": answer.tier,
        "degraded": prediction.degraded,
        "truncated": prediction.truncated,
        "version": answer.version,
    }


def _said(prediction: Prediction) -> dict[str, Any]:
    if prediction.entities is not None:
        return {"entities": [{**one._asdict(), "confidence": round(one.confidence, DIGITS)} for one in prediction.entities]}
    return {"label": prediction.label} if prediction.labels is None else {"labels": list(prediction.labels)}


def _add_explain(api: FastAPI, service: Service) -> None:
    @api.post("/v1/explain", **_documented(ExplainReply, ASKING, ExplainRequest))
    async def explain_(request: Request) -> Response:
        """Say which parts of a text speak for a label: exactly for TF-IDF and static tiers, by leaving parts out for encoders."""
        key = service.authorise(request, "explain")
        body = await service.read(request, ExplainRequest)
        text = service.text(body.text, "text")
        service.admit(request, key, [text])
        model = service.engine.current.model
        if body.label is not None and body.label not in model.labels:
            raise Invalid("label: the model has no such label; /v1/models lists them")
        places = [] if model.additive(text) else explain.spans(text)
        questions = [Question(text, True, body.label)]
        questions += [Question(explain.without(text, place)) for place in places]
        return Json(_explanation(request, body, await service.ask(request, questions), text, places))


def _explanation(
    request: Request, body: ExplainRequest, answers: list[Answer | RowError], text: str, places: list[explain.Span]
) -> ExplainReply:
    good = [answer for answer in answers if isinstance(answer, Answer)]
    if len(good) < len(answers):
        raise Failed("the model failed on this text, or on it without a part")
    whole = good[0]
    if any(answer.version != whole.version for answer in good):
        raise Unavailable("the bundle was switched during the explanation", code="switched", retry_after=1)
    label = body.label or whole.prediction.likeliest
    probability = whole.prediction.probabilities[label]
    if whole.contributions is not None:
        method, base, parts = "contributions", whole.contributions.base, explain.of_terms(whole.contributions)
    else:
        left = [answer.prediction.probabilities[label] for answer in good[1:]]
        method, base, parts = "occlusion", 0.0, explain.of_spans(text, places, probability, left)
    shown, rest = explain.strongest(parts, body.top)
    return ExplainReply(
        request_id=request.scope["request_id"],
        label=label,
        probability=round(probability, DIGITS),
        method=method,
        base=base,
        parts=shown,
        rest=rest,
        version=whole.version,
    )


def _add_feedback(api: FastAPI, service: Service) -> None:
    @api.post("/v1/feedback", **_documented(FeedbackReply, (401, 403, 404, *ASKING[2:]), FeedbackRequest))
    async def feedback(request: Request) -> Response:
        """Say what the right label, or labels, of an earlier text are. When the reply is there, the feedback is on disk."""
        key = service.authorise(request, "feedback")
        body = await service.read(request, FeedbackRequest)
        recorder = service.guards.recorder
        if not recorder.enabled:
            raise NotFound(NO_RECORD, code="no_record")
        label = service.right(body)
        write = partial(recorder.feedback, request_id=body.request_id, row=body.row, label=label, key=key.id)
        try:
            outcome = await asyncio.to_thread(write)
        except RefsynthError as error:
            raise Unavailable("the feedback could not be written", code="record_unavailable", retry_after=1) from error
        return Json(FeedbackReply(request_id=body.request_id, row=body.row, outcome=outcome))

    @api.get("/v1/feedback", **_documented(GivenReply, (401, 403, 404, *READING[2:])))
    async def recent(request: Request) -> Response:
        """Show the last feedback, the newest first."""
        service.authorise(request, "admin")
        recorder = service.guards.recorder
        if not recorder.enabled:
            raise NotFound(NO_RECORD, code="no_record")
        try:
            found = await asyncio.to_thread(recorder.recent, RECENT)
        except RefsynthError as error:
            raise Unavailable("the record does not answer", code="record_unavailable", retry_after=1) from error
        return Json(GivenReply(data=[GivenOut(**one._asdict()) for one in found]))


def _add_reading(api: FastAPI, service: Service) -> None:
    @api.get("/v1/models", **_documented(ModelsReply, READING))
    async def models(request: Request) -> Response:
        """Say which bundle is in use."""
        service.authorise(request, "predict")
        loaded = service.engine.current
        manifest = loaded.model.manifest
        shown = ModelOut(
            id=loaded.version,
            kind=manifest.kind,
            task=manifest.task,
            tier=loaded.model.variant,
            labels=list(loaded.model.labels),
            language=manifest.language,
            threshold=manifest.calibration.threshold,
            metrics={name: figure.value for name, figure in manifest.metrics.items()},
        )
        return Json(ModelsReply(data=[shown]))

    @api.get("/health/live", **_documented(LiveReply, ()))
    async def live() -> Response:
        """Say that the process answers. Asks nothing of the model."""
        return Json(LiveReply())

    @api.get("/health/ready", **_documented(ReadyReply, ()), responses={503: {"model": ReadyReply}})
    async def ready() -> Response:
        """Say whether to send requests here: the last canary through the queue was right, and nothing is full or ending."""
        problems = service.health.problems()
        engine = service.engine
        reply = ReadyReply(ready=not problems, problems=problems, degraded=engine.degraded, version=engine.current.version)
        return Json(reply, status_code=503 if problems else 200, headers={"Retry-After": "1"} if problems else None)

    @api.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        """Return the Prometheus metrics of all workers."""
        if service.guards.keys.required:
            service.authorise(request, "admin")
        return Response(await asyncio.to_thread(service.metrics.text), media_type="text/plain; version=0.0.4; charset=utf-8")


def _documented(reply: Any, statuses: tuple[int, ...], body: type[BaseModel] | None = None) -> dict[str, Any]:
    """Return what a route tells the OpenAPI description; the handlers read the bodies themselves, after the key."""
    documented: dict[str, Any] = {"response_model": reply}
    if statuses:
        documented["responses"] = {status: {"model": ErrorBody, "description": MEANINGS[status]} for status in statuses}
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
