"""Edges of the server: slow and endless heads, pipelining, encoders' explanations, logs without texts."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth import bundle
from refsynth.core.errors import RefsynthError
from refsynth.core.pair import DIVIDER
from refsynth.service.http import explain, protocol
from refsynth.service.http.link import Link
from refsynth.service.http.listening import accept_waiting, listen, refuse_new
from refsynth.service.http.logs import JsonFormatter, event
from refsynth.service.http.schema import ExplainedPart
from serving import ASK, Running, eventually, refuse_poison, running, save_bundle, save_encoder, slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("serve") / "bundle")


@contextmanager
def connected(server: Running) -> Iterator[socket.socket]:
    place = httpx.URL(server.url)
    with socket.create_connection((place.host, place.port or 0), timeout=10) as connection:
        yield connection


class TestHeads:
    def test_an_endless_head_ends_the_connection(self, folder: Path) -> None:
        with running(folder) as server, connected(server) as connection:
            connection.sendall(b"GET /health/live HTTP/1.1\r\n")
            received = b""
            try:
                for _ in range(100):
                    connection.sendall(b"X-Filler: " + b"a" * 10_000 + b"\r\n")
                received = connection.recv(100)
            except OSError:  # it was closed while we still sent
                pass
            assert received == b"" or b" 400 " in received
            assert eventually(lambda: not server.server.server_state.connections)

    def test_a_silent_connection_is_closed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
        with running(folder) as server, connected(server) as connection:
            assert connection.recv(1) == b""
            assert eventually(lambda: not server.server.server_state.connections)

    def test_a_connection_serves_many_requests_whose_heads_each_have_their_own_time(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "HEAD_SECONDS", 2.0)
        with running(folder) as server, connected(server) as connection:
            stream = connection.makefile("rb")
            for _ in range(20):
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + b"a" * 10_000 + b"\r\n\r\n")
                assert b" 200 " in stream.readline()
                while stream.readline() != b"\r\n":
                    pass
                assert stream.read(17) == b'{"status":"live"}'

    def test_pipelined_requests_are_answered_in_order(self, folder: Path) -> None:
        with running(folder) as server, connected(server) as connection:
            for number in range(10):
                body = json.dumps({"texts": f"w{number}"}).encode()
                head = f"{ASK}X-Request-ID: p{number}\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
            found = b""
            while found.count(b'"predictions"') < 10:
                found += connection.recv(65536)
            places = [found.index(f'"request_id":"p{number}"'.encode()) for number in range(10)]
            assert places == sorted(places)


def asked(body: bytes = b'{"texts":"w1"}', *, version: str = "1.1", headers: str = "") -> bytes:
    return (
        f"{ASK}Content-Length: {len(body)}\r\n{headers}\r\n".replace("predict HTTP/1.1", f"predict?a=b HTTP/{version}").encode()
        + body
    )


def replied(stream: IO[bytes]) -> tuple[int, dict[str, str], bytes]:
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    return status, headers, stream.read(int(headers["content-length"]))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(save_bundle(tmp_path_factory.mktemp("full") / "bundle")) as server:
        server.server.config.app._full = lambda: 2.3
        yield server


class TestFull:
    """What a full queue refuses, before the application sees it."""

    def test_the_reply_is_whole_and_the_connection_stays(self, full: Running) -> None:
        with connected(full) as connection, connection.makefile("rb") as stream:
            for number in range(3):
                connection.sendall(asked(headers=f"X-Request-ID: n{number}\r\n"))
                status, headers, body = replied(stream)
                assert (status, headers["retry-after"], headers["x-request-id"]) == (503, "3", f"n{number}")
                assert json.loads(body)["error"]["code"] == "queue_full"
                assert "date" in headers
                assert "connection" not in headers
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert replied(stream)[0] == 200

    def test_a_body_that_comes_later_is_read_over(self, full: Running) -> None:
        with connected(full) as connection, connection.makefile("rb") as stream:
            request = asked(b"x" * 300_000)
            connection.sendall(request[:1000])
            assert replied(stream)[0] == 503
            connection.sendall(request[1000:])
            connection.sendall(asked(headers="Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 14\r\n", b"")[:-14])
            assert replied(stream)[0] == 503
            connection.sendall(
                b"e\r\n" + b'{"texts":"w1"}' + b"\r\n0\r\n\r\n" + b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            assert replied(stream)[0] == 200

    @pytest.mark.parametrize("request_", [asked(version="1.0"), asked(headers="Connection: close\r\n")])
    def test_a_client_that_wants_the_end_gets_it(self, full: Running, request_: bytes) -> None:
        with connected(full) as connection, connection.makefile("rb") as stream:
            connection.sendall(request_)
            status, headers, _ = replied(stream)
            assert (status, headers["connection"]) == (503, "close")
            assert stream.read() == b""

    def test_refusals_are_counted_and_nothing_stays_under_way(self, full: Running) -> None:
        def counted() -> float:
            lines = httpx.get(full.url + "/metrics").text.splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.startswith('refsynth_rejected_total{reason="queue"'))

        before = counted()
        with connected(full) as connection, connection.makefile("rb") as stream:
            connection.sendall(asked() * 20)
            assert [replied(stream)[0] for _ in range(20)] == [503] * 20
        assert counted() == before + 20
        assert full.idle()

    def test_a_head_alone_gets_no_body(self, full: Running) -> None:
        with connected(full) as connection, connection.makefile("rb") as stream:
            connection.sendall(
                b"HEAD /v1/predict HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            assert b" 503 " in stream.readline()
            while stream.readline() != b"\r\n":
                pass
            assert replied(stream)[0] == 200

    def test_one_behind_an_answer_waits_for_it(self, folder: Path) -> None:
        with running(folder, before=slow(0.3)) as server, connected(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(asked())
            assert eventually(lambda: server.service.batcher.running)
            server.server.config.app._full = lambda: 1.0
            connection.sendall(asked())
            assert [replied(stream)[0] for _ in range(2)] == [200, 503]


class TestExplain:
    @given(st.text(max_size=400))
    def test_spans_cover_every_word_once_in_order(self, text: str) -> None:
        found = explain.spans(text)
        assert len(found) <= explain.PARTS
        assert all(one.end <= after.start for one, after in pairwise(found))
        assert "".join("".join(text[span.start : span.end].split()) for span in found).replace(DIVIDER, "") == "".join(
            text.replace(DIVIDER, "").split()
        )

    def test_scripts_without_spaces_are_cut_by_character(self) -> None:
        text = "退款 ok吗"
        assert [text[span.start : span.end] for span in explain.spans(text)] == ["退", "款", "ok", "吗"]

    def test_what_is_not_shown_is_in_the_rest(self) -> None:
        shown, rest = explain.strongest([ExplainedPart(text=str(value), value=value) for value in (0.5, -2.0, 1.0)], 2)
        assert [part.value for part in shown] == [-2.0, 1.0]
        assert rest == 0.5

    def test_an_encoder_is_explained_by_leaving_words_out(self, tmp_path: Path) -> None:
        folder = save_encoder(tmp_path)
        model = bundle.load(folder, threads=1)
        text = "where is it now"
        with running(folder) as server:
            said = httpx.post(server.url + "/v1/explain", json={"text": text, "label": "b"}, timeout=30).json()
            assert (said["method"], said["base"], said["rest"]) == ("occlusion", 0, 0)
            found = sorted((part["start"], part["text"]) for part in said["parts"])
            assert found == [(0, "where"), (6, "is"), (9, "it"), (12, "now")]
            whole = model.predict([text])[0].probabilities["b"]
            for part in said["parts"]:
                less = model.predict([text[: part["start"]] + " " + text[part["end"] :]])[0].probabilities["b"]
                assert part["value"] == pytest.approx(whole - less, abs=0.03)  # int8 answers move with their batch


class TestLogs:
    @pytest.mark.parametrize(
        ("logger", "level", "shown"),
        [
            ("alembic.runtime.plugins", logging.INFO, False),
            ("uvicorn.error", logging.INFO, False),
            ("any.library", logging.WARNING, True),
            ("refsynth.service.http", logging.INFO, True),
            ("refsynth.service.http", logging.DEBUG, False),
        ],
    )
    def test_of_libraries_only_warnings_are_logged(self, logger: str, level: int, shown: bool) -> None:
        code = "import logging; from refsynth.service.http.logs import configure; configure(); "
        code += f"logging.getLogger({logger!r}).log({level}, 'said')"
        done = subprocess.run([sys.executable, "-c", code + "; logging.shutdown()"], capture_output=True, text=True, check=True)
        assert ("said" in done.stderr) == shown

    def test_requests_and_failures_are_logged_without_a_text(self, folder: Path) -> None:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter())
        root = logging.getLogger()
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            with running(folder, before=refuse_poison) as server:
                object.__setattr__(server.server.config.app, "_log", True)
                httpx.post(server.url + "/v1/predict", json={"texts": "poison xyzzy"})
                httpx.post(server.url + "/v1/predict", json={"texts": "fine xyzzy"}, headers={"X-Request-ID": "r7"})
                httpx.post(server.url + "/v1/predict", json={"xyzzy": ["xyzzy"]})
                server.service.guards.limiter.take = lambda key, n: 1 / 0  # a bug somewhere behind the front
                answer = httpx.post(server.url + "/v1/predict", json={"texts": "xyzzy"})
                assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        finally:
            root.removeHandler(handler)
            root.setLevel(logging.WARNING)
        assert "xyzzy" not in stream.getvalue()
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        requests = [line for line in lines if line["event"] == "request"]
        assert [line["code"] for line in requests] == [500, 200, 422, 500]
        assert (requests[1]["request_id"], requests[1]["texts"], requests[1]["key"]) == ("r7", 1, "open")
        (failed,) = [line for line in lines if line["event"] == "request failed"]
        assert failed["error"] == "ZeroDivisionError"
        assert any("service.py" in place for place in failed["at"])

    def test_the_message_of_an_exception_is_left_out(self) -> None:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "event", (), None)
        try:
            raise ValueError("the text")
        except ValueError as error:
            record.exc_info = (ValueError, error, error.__traceback__)
        line = JsonFormatter().format(record)
        assert "the text" not in line
        assert json.loads(line)["error"] == "ValueError"
        event("ignored", level=logging.DEBUG, a=1)


class TestLink:
    def test_messages_pass_and_rubbish_ends_it(self) -> None:
        async def test() -> None:
            left, right = socket.socketpair()
            one, other = await Link.over(left), await Link.over(right)
            one.send(a=1)
            one.send(b="ü")
            assert await other.receive() == {"a": 1}
            assert await other.receive() == {"b": "ü"}
            one._writer.write(b"[1]\n")
            assert await other.receive() is None
            one._writer.write(b"{")
            await one.close()
            assert await other.receive() is None
            other.send(c=1)
            await other.close()

        asyncio.run(test())


class TestListening:
    def test_whoever_is_in_stays_in_and_nobody_else_gets_in(self) -> None:
        listener = listen("127.0.0.1", 0)
        listener.setblocking(False)
        early = socket.create_connection(listener.getsockname())
        early.sendall(b"request")
        refuse_new(listener)
        late = socket.socket()
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.connect(listener.getsockname())
        (accepted,) = accept_waiting(listener)
        listener.close()
        assert accepted.recv(100) == b"request"
        early.sendall(b"more")
        accepted.setblocking(True)
        assert accepted.recv(100) == b"more"
        for each in (early, late, accepted):
            each.close()

    def test_a_taken_address_says_so(self) -> None:
        with listen("127.0.0.1", 0) as listener, pytest.raises(RefsynthError, match="port"):
            listen("127.0.0.1", listener.getsockname()[1])
