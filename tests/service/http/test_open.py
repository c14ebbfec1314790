"""A server without keys: this machine alone, no page from elsewhere, and more only where that is said aloud."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from refsynth.cli.guards import compose, prepare
from refsynth.core.errors import ConfigError
from refsynth.service.http.auth import Keyring
from refsynth.service.http.origin import Origins
from refsynth.service.http.settings import Settings, check_exposure
from tests.support.processes import ENVIRONMENT, command
from tests.support.serving import Running, running, save_bundle

BODY = b'{"texts": "w1"}'
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("open") / "bundle")


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    record = tmp_path_factory.mktemp("record") / "record.sqlite"
    prepare({"record": str(record)})
    with running(folder, guards=compose({"record": str(record)}, record.parent)) as started:
        yield started


def asked(server: Running, path: str, headers: dict[str, str], *, method: str = "POST", body: bytes = BODY) -> tuple[int, str]:
    """Ask with just these headers, and Host and lengths where they are not among them; return the status and the error's code."""
    reply = httpx.request(method, server.url + path, content=body if method == "POST" else None, headers=headers)
    return reply.status_code, "" if reply.is_success else reply.json()["error"]["code"]


ROUTES = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
]
ROUTES += [("GET", "/v1/feedback"), ("GET", "/openapi.json"), ("GET", "/nothing"), ("POST", "/v1/predict"), ("POST", "/predict")]
ROUTES += [("POST", "/v1/explain"), ("POST", "/v1/feedback")]


class TestForeign:
    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "0.0.0.0",
            "192.168.1.5:8080",
            "",
            "localhost:8080@evil.example",
            "[::1",
            "evil.example#localhost",
            "0x7f.1",
            "localhost, evil.example",
        ],
    )
    def test_no_route_is_served_under_another_name(self, server: Running, host: str) -> None:
        for method, path in ROUTES:
            assert asked(server, path, {"Host": host, **JSON}, method=method) == (403, "foreign_host"), path

    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:1", "localhost.", "127.0.0.1", "127.8.0.1:99", "[::1]:8080", "[::1]"]
    )
    def test_every_name_of_this_machine_is_known(self, server: Running, host: str) -> None:
        assert asked(server, "/v1/predict", {"Host": host, **JSON}) == (200, "")

    @pytest.mark.parametrize("heads", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
    def test_without_one_host_nothing_is_served(self, server: Running, heads: bytes) -> None:
        place = httpx.URL(server.url)
        with socket.create_connection((place.host, place.port or 0), timeout=10) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\n" + heads + b"\r\n")
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            assert reply.status == 403 and b'"foreign_host"' in reply.read()

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "http://localhost:1", "http://localhost:{port}.evil.example", ""]
    )
    def test_a_page_from_elsewhere_reaches_no_route(self, server: Running, origin: str) -> None:
        port = httpx.URL(server.url).port
        for method, path in ROUTES:
            headers = {"Host": f"localhost:{port}", "Origin": origin.format(port=port), **JSON}
            assert asked(server, path, headers, method=method) == (403, "foreign_origin"), path

    def test_its_own_page_does(self, server: Running) -> None:
        for host in (f"localhost:{httpx.URL(server.url).port}", "127.0.0.1", "[::1]:80"):
            assert asked(server, "/v1/predict", {"Host": host, "Origin": f"http://{host}", **JSON}) == (200, "")

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "", None]
    )
    @pytest.mark.parametrize("path", ["/v1/predict", "/predict", "/v1/explain", "/v1/feedback"])
    def test_what_a_form_can_send_is_not_read(self, server: Running, path: str, kind: str | None) -> None:
        headers = {} if kind is None else {"Content-Type": kind}
        assert asked(server, path, headers) == (415, "not_json")

    @pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=utf-8"])
    def test_json_is(self, server: Running, kind: str) -> None:
        assert asked(server, "/v1/predict", {"Content-Type": kind}) == (200, "")

    def test_no_reply_lets_another_page_read_it(self, server: Running) -> None:
        reply = httpx.options(server.url + "/v1/predict", headers={"Access-Control-Request-Method": "POST"})
        assert reply.status_code == 405
        assert not [name for name in reply.headers if name.startswith("access-control")]

    def test_a_foreign_page_writes_no_feedback(self, server: Running) -> None:
        said = httpx.post(server.url + "/v1/predict", json={"texts": "w1"}).json()["request_id"]
        forged = {"request_id": said, "label": "other"}
        assert httpx.post(server.url + "/v1/feedback", json=forged, headers={"Origin": "http://evil.example"}).status_code == 403
        assert httpx.get(server.url + "/v1/feedback").json()["data"] == []


def test_with_keys_nobody_is_asked_where_they_come_from(folder: Path, tmp_path: Path) -> None:
    key = Keyring(tmp_path / "keys.json").add("context", scopes=("predict",)).presented
    with running(folder, guards=compose({"keys": str(tmp_path / "keys.json")}, tmp_path)) as server:
        headers = {"Host": "api.example.org", "Origin": "https://context.example.org", "Authorization": f"Bearer {key}"}
        assert asked(server, "/v1/predict", headers) == (200, "")
        assert asked(server, "/v1/predict", {**headers, "Authorization": ""}) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("host", "allowed", "known", "unknown"),
    [
        ("127.0.0.1", (), "localhost:8080", "model.lan"),
        ("127.0.0.1", ("model.lan",), "MODEL.lan.:80", "other.lan"),
        ("0.0.0.0", (), "10.1.2.3:8080", "model.lan"),
        ("::", ("model.lan",), "[fe80::1]:8080", "model.lan.evil.example"),
        ("model.lan", (), "model.lan:8080", "evil.example"),
        ("192.168.1.5", (), "192.168.1.5", "localhost.evil.example"),
    ],
)
def test_which_names_are_known(host: str, allowed: tuple[str, ...], known: str, unknown: str) -> None:
    origins = Origins(host, allowed)
    assert origins.refusal("GET", [(b"host", known.encode())]) is None
    assert origins.refusal("GET", [(b"host", unknown.encode())]).code == "foreign_host"


class TestExposure:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "model.lan"])
    def test_it_is_said_aloud_or_refused_with_the_ways_out(self, host: str) -> None:
        check_exposure(host, keyed=False, open_=True)
        with pytest.raises(ConfigError) as refused:
            check_exposure(host, keyed=False)
        assert refused.value.exit_code == 2
        assert all(way in str(refused.value) for way in (host, "--keys", "--open", "proxy"))

    @pytest.mark.parametrize("options", [{"open_": True}, {"allowed": ("model.lan",)}])
    def test_what_is_for_servers_without_keys_is_refused_beside_them(self, options: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match="keys"):
            check_exposure("127.0.0.1", keyed=True, **options)

    @pytest.mark.parametrize("name", ["model.lan:8080", "http://model.lan", "a b", "", "*"])
    def test_a_name_is_a_name(self, name: str) -> None:
        with pytest.raises(ConfigError, match="allow-host"):
            Settings.of(bundle=Path("b"), allow_host=(name,))

    def test_the_command_line_ends_with_exit_code_2(self, folder: Path) -> None:
        asked = command("serve", folder, "--host", "0.0.0.0", "--port", 0)
        done = subprocess.run(asked, env=ENVIRONMENT, text=True, capture_output=True, timeout=60, check=False)
        assert done.returncode == 2 and "--open" in done.stderr and "Traceback" not in done.stderr
