"""What an operator may opt in to: names of persons redacted, spans for requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from typer.testing import CliRunner

from refsynth.cli.app import app
from refsynth.cli.guards import compose, prepare
from refsynth.core.errors import ConfigError, InputError
from refsynth.service.http.interfaces import Guards
from refsynth.service.http.names import NameFinder
from refsynth.service.http.redact import PersonalKind, Redactor
from refsynth.service.http.traces import Traces
from refsynth.service.monitor.record import PredictionRecord
from tests.support.serving import eventually, refuse_poison, running, save_bundle

TEXT = "I am Ann Lee, write to ann@example.org"
REDACTED = "I am [PERSON], write to [EMAIL]"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spaCy pipeline that knows one name."""
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ann Lee"}, {"label": "ORG", "pattern": "Acme"}])
    folder = tmp_path_factory.mktemp("spacy") / "names"
    nlp.to_disk(folder)
    return folder


def test_names_are_redacted_beside_what_has_a_pattern(pipeline):
    redactor = Redactor(names=NameFinder(str(pipeline)))
    assert redactor.redact(TEXT) == REDACTED
    assert sorted(finding.kind for finding in redactor.find(TEXT)) == [PersonalKind.email, PersonalKind.person]
    assert redactor.redact("Ann Lee of Acme") == "[PERSON] of Acme"
    assert redactor.find("nobody here") == []
    assert Redactor().redact("Ann Lee") == "Ann Lee"


def test_a_server_that_keeps_texts_keeps_no_name(bundle, pipeline, tmp_path):
    where = str(tmp_path / "record.sqlite")
    options = {"record": where, "keep_texts": True, "names": str(pipeline)}
    prepare(options)
    with running(bundle, guards=compose(options, tmp_path)) as server:
        asked = httpx.post(server.url + "/v1/predict", json={"texts": [TEXT]}).json()["request_id"]
        body = {"request_id": asked, "label": "billing"}
        assert httpx.post(server.url + "/v1/feedback", json=body).status_code == 200
    record = PredictionRecord.open(where)
    assert [one.text for one in record.recent_feedback(9)] == [REDACTED]
    record.close()
    assert b"Ann Lee" not in Path(where).read_bytes()


@pytest.mark.parametrize("name", ["en_no_such_pipeline", "nowhere/at/all"])
def test_a_pipeline_that_is_not_there_is_named_and_not_fetched(name):
    with pytest.raises(InputError, match=name):
        NameFinder(name)


def test_a_pipeline_without_entities_is_refused(tmp_path):
    spacy = pytest.importorskip("spacy")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(InputError, match="recognizes no names"):
        NameFinder(str(tmp_path / "blank"))


@pytest.mark.parametrize(
    "options", [("--redact-names", "x"), ("--redact-names", "x", "--record", "r.sqlite"), ("--traces", "collector:4318")]
)
def test_options_that_do_not_fit_are_refused_before_anything_starts(bundle, options):
    result = CliRunner().invoke(app, ["serve", str(bundle), *options])
    assert isinstance(result.exception, ConfigError)
    assert ("--redact-names" if "--redact-names" in options else "traces") in str(result.exception)


@pytest.fixture
def collector() -> Iterator[tuple[str, list]]:
    """A collector of OpenTelemetry's own protocol, and the spans that it got."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Encoding"] in (None, "identity")
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            spans.extend(span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        server.shutdown()
        thread.join()


def test_each_request_is_a_span_without_its_texts(bundle, collector):
    url, spans = collector
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running(bundle, guards=Guards(tracer=Traces(url)), before=refuse_poison) as server:
        good = httpx.post(server.url + "/v1/predict", json={"texts": ["w1 secret", "w2"]}, headers={"traceparent": parent})
        bad = httpx.post(server.url + "/v1/predict", json={"texts": ["poison"]}, headers={"traceparent": "no such thing"})
        httpx.get(server.url + "/health/live")
    assert eventually(lambda: len(spans) == 2)
    assert [span.name for span in spans] == ["POST /v1/predict"] * 2
    first, second = spans
    found = {each.key: each.value.int_value or each.value.string_value for each in first.attributes}
    assert found == {
        "http.request.method": "POST",
        "http.route": "/v1/predict",
        "http.response.status_code": 200,
        "refsynth.request_id": good.json()["request_id"],
        "refsynth.texts": 2,
    }
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (parent[3:35], parent[36:52])
    assert 0 < first.end_time_unix_nano - first.start_time_unix_nano < 60e9
    assert (bad.status_code, second.status.code, second.parent_span_id) == (500, Status.STATUS_CODE_ERROR, b"")
    assert "secret" not in str(spans)


def test_a_collector_that_is_away_costs_no_reply(bundle):
    tracer = Traces("http://127.0.0.1:9/v1/traces")  # the port of `discard`, where nobody listens
    with running(bundle, guards=Guards(tracer=tracer)) as server:
        assert httpx.post(server.url + "/v1/predict", json={"texts": ["w1"]}).status_code == 200
