"""A server with its protections: as processes, with real keys, quotas and a record."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from benchmarks.serve.planted import plant
from refsynth.service.http.auth import Keyring
from refsynth.service.http.redact import PersonalKind, Redactor
from refsynth.service.monitor.record import PredictionRecord
from tests.support.processes import serving
from tests.support.serving import LABELS, save_bundle

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture
def ring(tmp_path):
    return Keyring(tmp_path / "keys.json")


def bearer(key):
    return {"Authorization": f"Bearer {key.presented}"}


def test_keys_scopes_and_revocation(bundle, tmp_path, ring):
    context, boss = ring.add("context", scopes=["predict"]), ring.add("boss", scopes=["admin", "predict", "explain", "feedback"])
    with serving(bundle, tmp_path, "--workers", 2, "--keys", ring.path) as server, httpx.Client(base_url=server.url) as client:
        body = {"texts": ["w1 w2"]}
        assert client.post("/v1/predict", json=body).status_code == 401
        assert client.post("/v1/predict", json=body, headers={"Authorization": "Bearer rsk_" + "0" * 61}).status_code == 401
        assert client.post("/v1/predict", json=body, headers=bearer(context)).status_code == 200
        assert client.get("/metrics", headers=bearer(context)).status_code == 403
        assert client.get("/metrics", headers=bearer(boss)).status_code == 200
        assert client.get("/health/ready").status_code == 200
        ring.revoke("context")
        time.sleep(1)
        seen = {httpx.post(server.url + "/v1/predict", json=body, headers=bearer(context)).status_code for _ in range(20)}
        assert seen == {401}
        ring.path.unlink()
        reply = client.post("/v1/predict", json=body, headers=bearer(boss))
        assert (reply.status_code, "Retry-After" in reply.headers) == (503, True)


def test_a_quota_holds_over_the_workers(bundle, tmp_path, ring):
    slow, fast = ring.add("slow", scopes=["predict"], rate=0.1, burst=6), ring.add("fast", scopes=["predict"])
    with serving(bundle, tmp_path, "--workers", 2, "--keys", ring.path) as server:
        # New connections, so that both workers get some.
        replies = [httpx.post(server.url + "/v1/predict", json={"texts": ["w1", "w2"]}, headers=bearer(slow)) for _ in range(8)]
        assert sorted(reply.status_code for reply in replies) == [200] * 3 + [429] * 5
        assert all(1 <= int(reply.headers["Retry-After"]) <= 20 for reply in replies if reply.status_code == 429)
        assert all(
            httpx.post(server.url + "/v1/predict", json={"texts": ["w1"]}, headers=bearer(fast)).status_code == 200
            for _ in range(8)
        )


@pytest.mark.slow
@pytest.mark.parametrize("texts", [False, True])
def test_no_canary_is_found_anywhere(bundle, tmp_path, texts):
    where = tmp_path / "record.sqlite"
    planted = [each for each in plant(300, seed=11) if each.kind is not PersonalKind.ip or "." not in each.item]
    if texts:  # then only what the redactor of this bundle's language finds is gone; how much that is, test_redact says
        redactor = Redactor(language="en")
        planted = [each for each in planted if each.item not in redactor.redact(each.text)]
        assert len(planted) > 200
    options = ("--record", where, *(("--keep-texts",) if texts else ()))
    with serving(bundle, tmp_path, "--log-requests", *options) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        for number, each in enumerate(planted):
            reply = client.post("/v1/predict", json={"texts": [each.text]}, headers={"X-Request-ID": f"q{number}"})
            assert reply.status_code == 200
            said = {"request_id": f"q{number}", "row": 0, "label": LABELS[0]}
            assert client.post("/v1/feedback", json=said).status_code == 200
        metrics = client.get("/metrics").text
        wrong = client.post("/v1/predict", json={"texts": planted[0].text}).text + client.post("/v1/nothing", json=said).text
        time.sleep(0.5)
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("record.sqlite*"))
        logs = "".join(server.lines)
    assert "q17" in logs
    assert b"q17" in kept
    haystack = kept + (logs + metrics + wrong).encode()
    assert [each.item for each in planted if each.item.encode() in haystack] == []
    record = PredictionRecord.open(where, tables="check")
    given = record.recent_feedback(1000)
    record.close()
    assert len(given) == len(planted)
    assert all((each.text is not None) is texts for each in given)


def test_feedback_survives_the_workers(bundle, tmp_path):
    where = tmp_path / "record.sqlite"
    told = []
    with serving(bundle, tmp_path, "--workers", 2, "--record", where) as server:
        for number in range(60):
            if number in (15, 30, 45):
                server.workers()[number % 2].kill()
            body = {"request_id": f"q{number}", "row": 0, "label": LABELS[0]}
            for _ in range(5):
                try:
                    reply = httpx.post(server.url + "/v1/feedback", json=body, timeout=20)
                except httpx.HTTPError:
                    continue  # it is sent again, as a client would
                assert reply.status_code == 200
                told.append(f"q{number}")
                break
    record = PredictionRecord.open(where, tables="check")
    assert sorted(each.request_id for each in record.recent_feedback(1000)) == sorted(told) == sorted({*told})
    assert len(told) == 60
    record.close()
