"""The whole server as processes: killed and frozen workers are replaced, a drain loses nothing, a bad bundle changes nothing."""

from __future__ import annotations

import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

import refsynth
from refsynth import bundle
from refsynth.core.errors import ConfigError
from refsynth.service.http.auth import Keyring
from refsynth.service.http.client import RequestError
from refsynth.service.http.state import ServerState
from refsynth.service.monitor.record import PredictionRecord
from tests.support import meddled
from tests.support.processes import ENVIRONMENT, Load, command, serving
from tests.support.serving import eventually, gone, nonce, save_bundle


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundles") / "first")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundles") / "second", seed=1)


def test_killed_and_frozen_workers_are_replaced_and_clients_notice_little(first: Path, tmp_path: Path) -> None:
    with serving(first, tmp_path, "--workers", 2, "--hang", 2) as server:
        assert len(server.workers()) == 2
        load = Load(server, bundle.load(first))
        for number in (signal.SIGKILL, signal.SIGSTOP):
            victim = server.workers()[0]
            before = len(server.events("worker ready"))
            victim.send_signal(number)
            assert eventually(lambda victim=victim: gone(victim), 10)
            assert eventually(lambda before=before: len(server.events("worker ready")) > before, 30)
            assert len(server.workers()) == 2
        load.end()
        assert [line["reason"] for line in server.events("worker lost")] == ["exited", "hung"]
        assert load.wrong == []
        assert load.seen["200"] > 50
        # What the dead workers had in their hands got a broken connection, never silence; one request a user at most.
        assert set(load.seen) <= {"200", "RemoteProtocolError", "ReadError", "WriteError"}
        assert sum(load.seen.values()) - load.seen["200"] <= 12
        text = httpx.get(server.url + "/metrics", timeout=10).text
        assert 'refsynth_worker_restarts_total{reason="hung"} 1.0' in text
        # A worker counts a reply when it is sent. One whose count died with a worker was seen by its client only, one a kill; one
        # that broke on its way was counted only, and its client saw the break.
        (line,) = [
            line for line in text.splitlines() if line.startswith('refsynth_requests_total{code="200",route="/v1/predict"}')
        ]
        broken = sum(load.seen.values()) - load.seen["200"]
        assert load.seen["200"] - 2 <= float(line.split()[-1]) <= load.seen["200"] + broken


@pytest.mark.parametrize(("text", "reason"), [("hang", "hung"), ("exit", "exited"), ("broken", "failing")])
def test_a_model_that_hangs_dies_or_fails_is_replaced(first: Path, tmp_path: Path, text: str, reason: str) -> None:
    with serving(first, tmp_path, script=Path(meddled.__file__)) as server:
        try:
            answer = httpx.post(server.url + "/v1/predict", json={"texts": text}, timeout=20)
            assert answer.status_code == {"hang": 504, "broken": 500}[text]
        except httpx.TransportError:
            assert text == "exit"
        assert eventually(lambda: len(server.events("worker ready")) == 2, 30)
        assert [line["reason"] for line in server.events("worker lost")] == [reason]
        with refsynth.Client(server.url) as client:
            assert client.predict("w1").predictions[0] is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_sigterm_under_load_loses_no_accepted_request(first: Path, tmp_path: Path) -> None:
    with serving(first, tmp_path, "--workers", 2) as server:
        load = Load(server, bundle.load(first))
        assert eventually(lambda: load.seen["200"] > 50, 30)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        load.end()
        assert load.wrong == []
        assert set(load.seen) == {"200", "refused"}
        assert server.events("ended")[0]["killed"] == 0
        assert not (tmp_path / "state").exists()


def test_a_notice_says_not_ready_while_requests_are_still_taken(first: Path, tmp_path: Path) -> None:
    with serving(first, tmp_path, "--notice", 2) as server:
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: httpx.get(server.url + "/health/ready").status_code == 503)
        assert httpx.get(server.url + "/health/ready").json()["problems"] == ["draining"]
        answer = httpx.post(server.url + "/v1/predict", json={"texts": "a"})
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert server.process.wait(30) == 0


@pytest.mark.slow
def test_reloads_under_load_switch_all_workers_or_none(first: Path, second: Path, tmp_path: Path) -> None:
    original = tmp_path / "original"
    save_bundle(original)
    deep = tmp_path / ("longer-than-the-address-of-a-unix-socket-may-be" * 3)
    with serving(original, deep, "--workers", 2) as server:
        load = Load(server, bundle.load(first), bundle.load(second), users=3)
        old = server.version()
        assert server.reload(second).returncode == 0
        new = server.version()
        assert new != old
        broken = tmp_path / "broken"
        save_bundle(broken)
        (broken / "head.safetensors").write_bytes(b"nothing")
        refused = server.reload(broken)
        assert refused.returncode == 3
        assert "head.safetensors" in refused.stderr
        assert {server.version() for _ in range(10)} == {new}
        assert server.reload("--rollback").returncode == 0
        assert {server.version() for _ in range(10)} == {old}
        assert server.reload("--rollback").returncode == 0
        assert {server.version() for _ in range(10)} == {new}
        (original / "vocabulary.json").unlink()  # the original is gone; SIGHUP must not take the service with it
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: len(server.events("reload refused")) == 2)
        server.workers()[0].kill()  # a new worker opens the copy that is in use, not the original
        assert eventually(lambda: len(server.events("worker ready")) == 3, 30)
        assert {server.version() for _ in range(10)} == {new}
        load.end()
        assert load.wrong == []
        assert sum(load.seen.values()) - load.seen["200"] <= 3  # the killed worker's


def test_a_server_that_cannot_start_says_why(first: Path, tmp_path: Path) -> None:
    broken = save_bundle(tmp_path / "broken")
    (broken / "golden.json").write_text("{}")
    for arguments, code, found in (
        ([broken, "--port", 0], 2, "golden.json"),
        ([tmp_path / "none", "--port", 0], 2, "not a bundle"),
        ([first, "--host", "0.0.0.0"], 2, "no keys"),
        ([first, "--drain", 1], 2, "drain"),
    ):
        done = subprocess.run(
            command("serve", *arguments), env=ENVIRONMENT, text=True, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr
        assert found in done.stderr
        assert "Traceback" not in done.stderr


def test_reload_without_a_server_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        command("reload", "--state", tmp_path), env=ENVIRONMENT, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 4
    assert "no server" in done.stderr


def test_keys_quotas_and_the_record_hold_over_all_workers(first: Path, tmp_path: Path) -> None:
    keys, where = tmp_path / "keys.json", tmp_path / "record.sqlite"
    ring = Keyring(keys)
    caller = ring.add("context", scopes=["predict", "feedback"]).presented
    hasty = ring.add("hasty", scopes=["predict"], rate=0.001, burst=10).presented
    options = ("--workers", 2, "--keys", keys, "--record", where, "--keep-texts")
    with serving(first, tmp_path, *options) as server:
        assert httpx.post(server.url + "/v1/predict", json={"texts": "a"}).status_code == 401
        used = [httpx.post(server.url + "/v1/predict", json={"texts": "a"}, headers=bearer(hasty)) for _ in range(30)]
        assert [answer.status_code for answer in used].count(200) == 10
        assert all(int(answer.headers["retry-after"]) > 1 for answer in used if answer.status_code == 429)
        with refsynth.Client(server.url, key=caller) as client:
            reply = client.predict(["w1, I am jane@example.org", "w2"])
            client.feedback(reply.request_id, "billing")
            client.feedback(reply.request_id, "billing")
            with pytest.raises(RequestError) as caught:
                client.explain("w1")
            assert caught.value.status == 403
            ring.revoke("context")
            assert eventually(lambda: httpx.post(server.url + "/predict", headers=bearer(caller)).status_code == 401, 5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    record = PredictionRecord.open(where, tables="check")
    (given,) = record.recent_feedback(10)
    assert (given.request_id, given.label, given.text) == (reply.request_id, "billing", "w1, I am [EMAIL]")
    assert sum(record.summary(since=datetime(2000, 1, 1, tzinfo=UTC)).predictions.values()) == 12
    record.close()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class TestClient:
    def test_it_predicts_explains_and_waits_for_a_worker_that_is_replaced(self, first: Path, tmp_path: Path) -> None:
        model = bundle.load(first)
        with serving(first, tmp_path) as server, refsynth.Client(server.url) as client:
            reply = client.predict([nonce(1), nonce(2)])
            for said, expected in zip(reply.predictions, model.predict([nonce(1), nonce(2)]), strict=True):
                assert said is not None
                assert (said.label, said.abstain) == (expected.label, expected.abstain)
            assert client.explain(nonce(1))["label"] == reply.predictions[0].label  # type: ignore[union-attr]
            assert client.models()[0]["labels"] == list(model.labels)
            server.workers()[0].kill()
            assert client.predict(nonce(3)).predictions[0].label == model.predict([nonce(3)])[0].label  # type: ignore[union-attr]
            with pytest.raises(RequestError, match="no record") as caught:
                client.feedback(reply.request_id, "other")
            assert (caught.value.status, caught.value.code) == (404, "no_record")

    def test_it_gives_up_in_time(self) -> None:
        started = time.monotonic()
        with refsynth.Client("http://127.0.0.1:9", timeout=0.5) as client, pytest.raises(RequestError, match="ConnectError"):
            client.predict("a")
        assert time.monotonic() - started < 5

    def test_it_waits_as_long_as_it_is_told(self) -> None:
        replies = iter(
            [
                httpx.Response(503, headers={"Retry-After": "1"}, json={"error": {"code": "queue_full", "message": "full"}}),
                httpx.Response(200, json={"request_id": "r", "predictions": [{"error": {}}]}),
            ]
        )
        client = refsynth.Client("http://test", timeout=10)
        client._pool = httpx.Client(base_url="http://test", transport=httpx.MockTransport(lambda request: next(replies)))
        started = time.monotonic()
        assert client.predict("a").predictions == (None,)
        assert time.monotonic() - started >= 1
        client.close()


class TestState:
    def test_one_server_holds_it(self, tmp_path: Path) -> None:
        state = ServerState(tmp_path / "state")
        with pytest.raises(ConfigError, match="another server"):
            ServerState(tmp_path / "state")
        state.close()
        ServerState(tmp_path / "state").close()

    def test_a_folder_with_something_else_in_it_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "bundles").mkdir()
        with pytest.raises(ConfigError, match="not empty"):
            ServerState(tmp_path)
        assert (tmp_path / "bundles").is_dir()
