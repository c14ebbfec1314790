"""What one connection, and one key, may hold of a worker; and that nothing stays of them. By counts, over real sockets."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from refsynth.cli.guards import compose
from refsynth.service.http import protocol
from refsynth.service.http.auth import Keyring
from refsynth.service.http.intake import HEAD_BYTES, HEADERS
from refsynth.service.http.protocol import PIPELINED, BoundedProtocol
from refsynth.service.http.shares import Shares
from tests.support.serving import ASK, Running, eventually, running, save_bundle, slow

LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b'{"texts":"w1"}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bounds") / "bundle")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(folder) as started:
        yield started


@contextmanager
def connected(server: Running) -> Iterator[socket.socket]:
    place = httpx.URL(server.url)
    with socket.create_connection((place.host, place.port or 0), timeout=20) as connection:
        yield connection


def asked(body: bytes = BODY, extra: str = "", *, length: int | None = None) -> bytes:
    return f"{ASK}{extra}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def replies(stream: IO[bytes]) -> list[tuple[int, dict]]:
    """All replies until the connection ends."""
    found = []
    while line := stream.readline():
        headers = dict(field.decode().strip().lower().split(": ", 1) for field in iter(stream.readline, b"\r\n"))
        found.append((int(line.split()[1]), json.loads(stream.read(int(headers["content-length"])))))
    return found


def send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # it may be closed while we still send
        connection.sendall(data)


class TestPipeline:
    @pytest.mark.parametrize("request_", [LIVE, asked(), asked() + LIVE, b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    def test_a_row_of_requests_is_answered_up_to_the_bound_then_refused_then_closed(
        self, server: Running, request_: bytes
    ) -> None:
        with connected(server) as connection, connection.makefile("rb") as stream:
            send(connection, request_ * 1_700)
            found = replies(stream)
        assert len(found) == PIPELINED + 1
        assert (found[-1][0], found[-1][1]["error"]["code"]) == (503, "busy")
        assert all(status in (200, 404) for status, _ in found[:-1])
        assert server.idle()

    def test_as_many_as_fit_are_all_answered_and_the_connection_stays(self, server: Running) -> None:
        with connected(server) as connection, connection.makefile("rb") as stream:
            for _ in range(3):
                connection.sendall(LIVE * PIPELINED)
                seen = b""
                while seen.count(b'{"status":"live"}') < PIPELINED:
                    seen += stream.read1()
                assert seen.count(b" 200 OK") == PIPELINED

    @pytest.mark.parametrize("wrong", [b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"])
    def test_a_wrong_request_behind_others_is_refused_after_them(self, folder: Path, wrong: bytes) -> None:
        with running(folder, before=slow(0.1)) as server, connected(server) as connection, connection.makefile("rb") as stream:
            send(connection, asked() * 3 + wrong)
            assert [status for status, _ in replies(stream)] == [200, 200, 200, 400]

    def test_a_client_that_goes_takes_all_its_requests_out_of_the_queue(self, folder: Path) -> None:
        held, opened = threading.Event(), threading.Event()

        def hold(texts: Sequence[str]) -> None:
            if "w1" in texts:
                held.set()
                opened.wait(20)

        with running(folder, before=hold) as server, connected(server) as first:
            first.sendall(asked())
            assert held.wait(10)
            with connected(server) as second:
                second.sendall(asked(b'{"texts":["w2","w3"]}') * 4)
                assert eventually(lambda: server.service.batcher.queued >= 2)
            assert eventually(lambda: server.service.batcher.queued <= 1)  # the canary may wait
            assert eventually(lambda: server.server.config.app.inflight == 1)
            opened.set()
            assert server.idle()


class TestNothingStays:
    """The collector is off: what goes, goes because nothing points to it."""

    @pytest.mark.parametrize(
        "harm",
        [
            lambda connection: send(connection, LIVE * 1_700),
            lambda connection: send(connection, asked() * 40),
            lambda connection: send(connection, asked(length=10_000)),
            lambda connection: send(connection, asked(b'{"texts":""}') * 5 + b"rubbish"),
            lambda connection: send(connection, LIVE + b"GET / HTTP/1.1\r\nX-Half: "),
            lambda connection: send(connection, asked(extra="Connection: close\r\n") + LIVE * 5),
        ],
    )
    def test_of_connections_that_end_anyhow(self, server: Running, harm: Callable[[socket.socket], object]) -> None:
        def alive() -> int:
            kinds = (RequestResponseCycle, BoundedProtocol)
            return sum(issubclass(type(each), kinds) for each in gc.get_objects())

        assert eventually(lambda: not server.server.server_state.connections)
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for turn in range(4):
                with connected(server) as connection:
                    harm(connection)
                    if turn % 2:  # reset, not closed
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            assert eventually(lambda: not server.server.server_state.connections)
            assert server.idle()
            assert eventually(lambda: alive() <= before, 3.0), f"{alive()} are left of {before}"
            assert server.service.bodies.taken == 0
        finally:
            gc.enable()


class TestHeads:
    @pytest.mark.parametrize(
        "head",
        [
            b"X-Long: " + b"a" * 100_000,
            b"X-Long: " + b"a" * HEAD_BYTES,
            b"\r\n".join(b"X-%d: %s" % (number, b"a" * 2_000) for number in range(40)),
            b"\r\n".join(b"X-%d: a" % number for number in range(HEADERS + 1)),
            b"x" * 100_000 + b": a",
        ],
    )
    def test_one_that_is_too_large_is_refused_in_our_form(self, server: Running, head: bytes) -> None:
        with connected(server) as connection, connection.makefile("rb") as stream:
            send(connection, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
            ((status, body),) = replies(stream)
        assert (status, body["error"]["code"]) == (400, "head_too_large")

    def test_a_target_is_part_of_it(self, server: Running) -> None:
        with connected(server) as connection, connection.makefile("rb") as stream:
            send(connection, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            ((status, body),) = replies(stream)
        assert (status, body["error"]["code"]) == (400, "head_too_large")

    @pytest.mark.parametrize("piece", [1_000, 20_000, 100_000])
    def test_one_within_the_bound_is_served_however_it_arrives(self, server: Running, piece: int) -> None:
        head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 60_000 + b"\r\nConnection: close\r\n\r\n"
        with connected(server) as connection, connection.makefile("rb") as stream:
            for start in range(0, len(head), piece):
                connection.sendall(head[start : start + piece])
            assert [status for status, _ in replies(stream)] == [200]

    @pytest.mark.parametrize(
        "text",
        [
            b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
            b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            ASK.encode() + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ASK.encode() + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n",
            ASK.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        ],
    )
    def test_what_is_no_request_gets_an_error_in_our_form(self, server: Running, text: bytes) -> None:
        with connected(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(text)
            ((status, body),) = replies(stream)
        assert (status, body["error"]["code"]) == (400, "bad_request")
        assert server.idle()

    def test_another_path_for_a_route_is_not_there(self, server: Running) -> None:
        for path in ("/v1/predict/", "/docs/", "/v1//predict"):
            reply = httpx.get(server.url + path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")

    @pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
    def test_another_protocol_is_not_spoken_and_the_request_answered(self, server: Running, upgrade: str) -> None:
        with connected(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(
                f"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n".encode()
            )
            assert replies(stream) == [(200, {"status": "live"})]


class TestBodies:
    @pytest.mark.parametrize("around", [b"X-Trailer: " + b"a" * 5_000 + b"\r\n", b"X-Trailer: a\r\n"])
    def test_trailers_without_end_end_the_connection(self, server: Running, around: bytes) -> None:
        with connected(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(ASK.encode() + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
            send(connection, around * (2_000_000 // len(around)))
            assert [status for status, _ in replies(stream)] == [400]
        assert server.idle()

    def test_a_trailer_does_not_become_a_header(self, server: Running) -> None:
        body = b"e\r\n" + BODY + b"\r\n0\r\nX-Request-ID: forged\r\nAuthorization: Bearer x\r\n\r\n"
        with connected(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(ASK.encode() + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            ((status, reply),) = replies(stream)
        assert status == 200 and reply["request_id"] != "forged"

    def test_a_body_in_single_bytes_is_read(self, server: Running) -> None:
        text = json.dumps({"texts": "w1 " * 6_000}).encode()
        with connected(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(ASK.encode() + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"".join(b"1\r\n%c\r\n" % byte for byte in text) + b"0\r\n\r\n")
            assert [status for status, _ in replies(stream)] == [200]

    def test_all_connections_share_one_budget(self, folder: Path) -> None:
        with running(folder) as server, ExitStack() as stack:
            server.service.bodies.whole = 100_000
            held = [stack.enter_context(connected(server)) for _ in range(4)]
            for connection in held:
                connection.sendall(asked(b'{"texts":"' + b"a" * 24_000, length=200_000))
            assert eventually(lambda: server.service.bodies.taken > 96_000)
            with connected(server) as connection, connection.makefile("rb") as stream:
                send(connection, asked(b'{"texts":"' + b"a" * 24_000, length=200_000))
                ((status, body),) = replies(stream)
            assert (status, body["error"]["code"]) == (503, "busy")
            assert httpx.post(server.url + "/v1/predict", json={"texts": "w1"}).status_code == 200  # a small one has room
            stack.close()
            assert eventually(lambda: server.service.bodies.taken == 0)
            assert server.idle()

    def test_the_rest_of_a_refused_body_has_its_time(self, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
        with connected(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(asked(length=100_000).replace(b"/v1/predict", b"/v1/nothing"))
            assert [status for status, _ in replies(stream)] == [404]  # and the end

    def test_a_client_that_never_reads_is_let_go(self, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(protocol, "STALL_SECONDS", 0.2)
        with connected(server) as connection:
            assert eventually(lambda: len(server.server.server_state.connections) == 1)
            (ours,) = server.server.server_state.connections
            server.loop.call_soon_threadsafe(ours.pause_writing)
            assert connection.recv(1) == b""
        assert eventually(lambda: not server.server.server_state.connections)


class TestKeys:
    @pytest.fixture
    def keyed(self, folder: Path, tmp_path: Path) -> Iterator[tuple[Running, dict[str, str], dict[str, str]]]:
        ring = Keyring(tmp_path / "keys.json")
        greedy, other = (
            {"Authorization": f"Bearer {ring.add(name, scopes=('predict', 'explain')).presented}"} for name in ("greedy", "other")
        )
        guards = compose({"keys": str(ring.path)}, tmp_path)
        with running(folder, guards=guards, key_requests=3, requests=8) as server:
            yield server, greedy, other

    @pytest.mark.parametrize("path", ["/v1/predict", "/predict", "/v1/explain"])
    def test_one_key_cannot_have_all_places(self, keyed, path: str) -> None:
        server, greedy, other = keyed
        field = {"/v1/predict": "texts", "/predict": "inputs", "/v1/explain": "text"}[path]
        with ExitStack() as stack:
            for _ in range(3):
                unfinished = stack.enter_context(connected(server))
                head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {greedy['Authorization']}\r\nContent-Length: 9\r\n\r\n"
                unfinished.sendall(head.encode())
            front = server.server.config.app
            assert eventually(lambda: front.inflight == 3)
            for _ in range(3):
                reply = httpx.post(server.url + path, json={field: "w1"}, headers=greedy)
                assert (reply.status_code, reply.json()["error"]["code"]) == (429, "key_busy")
                assert reply.headers["retry-after"] == "1"
                assert httpx.post(server.url + path, json={field: "w1"}, headers=other).status_code == 200
        assert server.idle()
        assert httpx.post(server.url + path, json={field: "w1"}, headers=greedy).status_code == 200

    def test_one_key_cannot_have_all_room_for_bodies(self, keyed) -> None:
        server, greedy, other = keyed
        server.service._sent.part = 50_000
        text = {"texts": "a" * 60_000}
        reply = httpx.post(server.url + "/v1/predict", json=text, headers=greedy)
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "key_busy")
        assert httpx.post(server.url + "/v1/predict", json={"texts": "a" * 19_000}, headers=other).status_code == 200
        assert server.idle() and server.service._sent.taken == server.service._open.taken == 0

    def test_keys_do_not_limit_who_has_none(self, server: Running) -> None:
        assert server.service._open.taken == 0
        assert httpx.post(server.url + "/v1/predict", json={"texts": "w1"}).status_code == 200


def test_shares_are_of_a_whole_and_come_back() -> None:
    shares = Shares(10, 6)
    assert [shares.take("a", n) for n in (4, 3, 2)] == [True, False, True]
    assert [shares.take("b", n) for n in (5, 4)] == [False, True]
    assert shares.taken == 10
    shares.give("a", 6)
    shares.give("b", 4)
    assert shares.taken == 0 and shares.take("c", 6) and not shares._held["a"]
