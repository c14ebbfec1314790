"""Odd and hostile input over HTTP: each gets a refusal in our form or an answer, and the server goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from refsynth.cli.guards import compose, prepare
from refsynth.service.http.auth import SCOPES, Keyring
from tests.support.serving import Running, running, save_bundle

PATHS = ("/v1/predict", "/predict", "/v1/explain", "/v1/feedback")
FIELD = {"/v1/predict": b"texts", "/predict": b"inputs", "/v1/explain": b"text", "/v1/feedback": b"label"}
VALUES = {
    "lone surrogate": b'"\\ud800"',
    "two in the wrong order": b'"\\udfff\\ud800"',
    "surrogate in a key": b'{"\\ud800": 1}',
    "surrogates as bytes": b'"\xed\xa0\x80"',
    "no UTF-8": b'"\xff\xfe"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "unclosed": b"[" * 500_000,
    "huge integer": b"9" * 100_000,
    "huge exponent": b"1e999999999",
    "not a number": b"NaN",
    "infinite": b"-Infinity",
    "null": b"null",
    "bool": b"true",
    "many keys": b"{" + b",".join(b'"k%d":0' % number for number in range(50_000)) + b"}",
    "raw control": b'"a\x00b"',
    "half an escape": b'"\\u12',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    folder = tmp_path_factory.mktemp("hostile")
    key = Keyring(folder / "keys.json").add("all", scopes=SCOPES).presented
    prepare({"record": str(folder / "record.sqlite")})
    options = {"keys": str(folder / "keys.json"), "record": str(folder / "record.sqlite")}
    with running(save_bundle(folder / "bundle"), guards=compose(options, folder)) as started:
        yield started, key
        assert httpx.get(started.url + "/health/ready").status_code == 200


def refused(reply: httpx.Response, *statuses: int) -> None:
    assert reply.status_code in statuses, reply.text[:200]
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert len(reply.content) < 1_000
    json.dumps(error["message"]).encode("utf-8")


def post(server: tuple[Running, str], path: str, body: bytes, headers: dict[bytes, bytes] | None = None) -> httpx.Response:
    given = {b"Authorization": b"Bearer " + server[1].encode(), b"Content-Type": b"application/json", **(headers or {})}
    return httpx.post(server[0].url + path, content=body, headers=given, timeout=30)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_that_is_no_text(server: tuple[Running, str], path: str, value: bytes) -> None:
    rest = b', "request_id": "a"' if path == "/v1/feedback" else b""
    refused(post(server, path, b'{"%s": %s%s}' % (FIELD[path], value, rest)), 422)
    refused(post(server, path, value), 422)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_field_that_is_none(server: tuple[Running, str], path: str, value: bytes) -> None:
    refused(
        post(server, path, b'{"%s": "w1", "request_id": %s, "row": %s, "top": %s}' % (FIELD[path], value, value, value)), 413, 422
    )
    if value.startswith(b'"'):
        refused(post(server, path, b'{"%s": "w1", %s: 1}' % (FIELD[path], value)), 422)


@pytest.mark.parametrize("row", [b"-1", b"1000001", b"9" * 400, b"1e3", b"1.5", b'"0"', b"1e400", b"-0.0"])
def test_a_row_that_is_none(server: tuple[Running, str], row: bytes) -> None:
    refused(
        post(server, "/v1/feedback", b'{"request_id": "a", "label": "other", "row": %s}' % row),
        404 if row == b"-0.0" else 422,
        422,
    )


@pytest.mark.parametrize(
    "given", [b"\xed\xa0\x80", b"\xff", "ü".encode(), b"a b", b"a\tb", b"x" * 65, b"%00", b"a/../b", b"<b>", b""]
)
def test_an_id_that_is_none(server: tuple[Running, str], given: bytes) -> None:
    reply = post(server, "/v1/predict", b'{"texts": "w1"}', {b"X-Request-ID": given})
    assert reply.status_code == 200 and reply.json()["request_id"] == reply.headers["x-request-id"] != given.decode("latin-1")
    asked = json.dumps({"request_id": given.decode("latin-1"), "label": "other"}).encode()
    refused(post(server, "/v1/feedback", asked), 422)


@pytest.mark.parametrize(
    "given",
    [
        b"Bearer \xed\xa0\x80",
        b"Bearer " + b"\xff" * 64,
        b"Bearer rsk_" + b"\xb2" * 61,
        b"Bearer",
        b"\xff",
        b"Bearer " + b"a" * 60_000,
    ],
)
def test_a_key_that_is_none(server: tuple[Running, str], given: bytes) -> None:
    for path in PATHS:
        refused(post(server, path, b"{}", {b"Authorization": given}), 401)


@pytest.mark.parametrize(
    "path", ["/%ed%a0%80", "/%ff", "/%00", "/v1/predict%2f..", "/?a=%ed%a0%80", "/v1/predict?texts=%ff", "//", "/" + "a" * 9_000]
)
def test_a_path_that_is_none(server: tuple[Running, str], path: str) -> None:
    reply = httpx.get(server[0].url + path)
    assert reply.status_code in (200, 404, 405)
    if reply.status_code != 200:
        refused(reply, 404, 405)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", [*PATHS, "/health/live", "/docs", "/metrics"])
def test_a_method_that_is_none(server: tuple[Running, str], path: str, method: str) -> None:
    refused(httpx.request(method, server[0].url + path), 405)
