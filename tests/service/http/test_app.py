"""The HTTP interface on a real loopback port: answers, refusals, limits, health, and what stays true under concurrency."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import socket
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

import refsynth
from refsynth import bundle
from refsynth.core.errors import ConfigError, InputError
from refsynth.core.pair import join_pair
from refsynth.service.http import health, interfaces
from refsynth.service.http.settings import Settings, check_exposure
from tests.support.asking import Memory, post, problem
from tests.support.serving import ASK, LABELS, Running, eventually, nonce, refuse_poison, running, save_bundle, slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("serve") / "bundle")


@pytest.fixture(scope="module")
def model(folder: Path) -> bundle.Model:
    return bundle.load(folder)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(folder) as started:
        yield started


def together(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def client(server: Running, connections: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=server.url, timeout=30, limits=limits)


def metric(server: Running, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(server.url + "/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


class TestAnswers:
    def test_one_text_gets_what_the_bundle_says(self, server: Running, model: bundle.Model) -> None:
        answer = post(server, "/v1/predict", {"texts": nonce(1)})
        (said,) = answer.json()["predictions"]
        expected = model.predict([nonce(1)])[0]
        assert said["label"] == expected.label
        assert said["probability"] == pytest.approx(expected.probability, abs=1e-6)
        assert said["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-6)
        assert said["abstain"] == expected.abstain
        assert said["tier"] == "exact"
        assert said["version"] == httpx.get(server.url + "/v1/models").json()["data"][0]["id"]

    def test_many_texts_are_answered_in_order(self, server: Running, model: bundle.Model) -> None:
        texts = [nonce(number) for number in range(200)]
        said = post(server, "/v1/predict", {"texts": texts}).json()["predictions"]
        for one, expected in zip(said, model.predict(texts), strict=True):
            assert one["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-6)

    def test_top_k_shows_the_best_labels_first(self, server: Running) -> None:
        (said,) = post(server, "/v1/predict", {"texts": nonce(2), "top_k": 2}).json()["predictions"]
        values = list(said["probabilities"].values())
        assert len(values) == 2
        assert values == sorted(values, reverse=True)
        assert next(iter(said["probabilities"])) == said["label"]
        (said,) = post(server, "/v1/predict", {"texts": nonce(2), "probabilities": False}).json()["predictions"]
        assert said["probabilities"] is None

    def test_the_form_of_text_embeddings_inference(self, server: Running, model: bundle.Model) -> None:
        one = post(server, "/predict", {"inputs": nonce(3)}).json()
        assert {row["label"]: row["score"] for row in one} == pytest.approx(
            dict(model.predict([nonce(3)])[0].probabilities), abs=1e-6
        )
        assert [row["score"] for row in one] == sorted((row["score"] for row in one), reverse=True)
        many = post(server, "/predict", {"inputs": [[nonce(3)], [nonce(4)]], "truncate": True}).json()
        assert many[0] == one
        assert len(many) == 2
        assert post(server, "/predict", {"inputs": [nonce(3)]}).json() == one
        for wrong in (["a", "pair"], [["a", "pair"]], [["a"], ["a", "pair"]], [], [[]], 3, [3]):
            assert problem(post(server, "/predict", {"inputs": wrong})) == (422, "invalid")
        assert problem(post(server, "/predict", {"inputs": "a", "raw_scores": True})) == (422, "invalid")

    def test_a_tfidf_explanation_sums_to_the_log_odds(self, server: Running, model: bundle.Model) -> None:
        text = nonce(5) + " unknown"
        said = post(server, "/v1/explain", {"text": text, "top": 4}).json()
        logs = {label: math.log(value) for label, value in model.predict([text])[0].probabilities.items()}
        assert said["method"] == "contributions"
        assert len(said["parts"]) == 4
        total = said["base"] + sum(part["value"] for part in said["parts"]) + said["rest"]
        assert total == pytest.approx(logs[said["label"]] - sum(logs.values()) / len(logs))
        assert all(part["text"] in text for part in said["parts"])
        other = post(server, "/v1/explain", {"text": text, "label": "other"}).json()
        assert other["label"] == "other"
        assert problem(post(server, "/v1/explain", {"text": text, "label": "none"})) == (422, "invalid")

    def test_unknown_words_and_strange_texts_are_answered(self, server: Running) -> None:
        strange = ["." * 10_000, "<|im_start|>", "🏳️‍🌈" * 50, "a\r\nb", "汉字", "\u202e!", "'; DROP TABLE"]
        said = post(server, "/v1/predict", {"texts": strange}).json()["predictions"]
        assert len(said) == len(strange)
        assert all(sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5) for one in said)


class TestRefusals:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b'{"texts": []}',
            b'{"texts": null}',
            b'{"texts": ["a", 1]}',
            b'{"texts": "a", "top_k": 0}',
            b'{"texts": "a", "top_k": "1"}',
            b'{"texts": "a", "top_k": 1e400}',
            b'{"texts": "a", "colour": 1}',
            b'{"texts": "\\ud800"}',
            b'{"texts": "\xff\xfe"}',
            b'{"texts": ' + b"[" * 50_000,
            b'{"texts": ' + b"9" * 50_000 + b"}",
        ],
    )
    def test_what_is_not_in_the_schema(self, server: Running, body: bytes) -> None:
        answer = post(server, "/v1/predict", body)
        assert problem(answer) == (422, "invalid")

    def test_an_error_does_not_repeat_the_text(self, server: Running) -> None:
        answer = post(server, "/v1/predict", {"texts": ["fine", {"secret": "hunter2"}], "hunter3": 1})
        assert answer.status_code == 422
        assert "hunter2" not in answer.text
        answer = post(server, "/v1/predict", {"texts": "fine", "hunter3": 1})
        assert answer.status_code == 422
        assert "hunter3" not in answer.text and "top_k" in answer.text

    def test_unknown_paths_and_methods(self, server: Running) -> None:
        assert problem(httpx.get(server.url + "/nothing")) == (404, "not_found")
        assert problem(httpx.get(server.url + "/v1/predict")) == (405, "method_not_allowed")

    def test_sizes(self, folder: Path) -> None:
        with running(folder, body_bytes=4096, most_texts=3, characters=100) as server:
            about = httpx.get(server.url + "/openapi.json").json()["info"]["description"]
            assert "at most 3 texts of at most 100 characters each, in a body of at most 4,096 bytes" in about
            assert problem(post(server, "/v1/predict", {"texts": ["a"] * 4})) == (413, "too_large")
            assert problem(post(server, "/v1/predict", {"texts": "a" * 101})) == (413, "too_large")
            assert post(server, "/v1/predict", {"texts": ["a" * 100] * 3}).status_code == 200
            assert problem(post(server, "/v1/predict", b" " * 4097)) == (413, "too_large")
            assert problem(post(server, "/v1/predict", b" " * 100_000)) == (413, "too_large")
            chunks = (b" " * 1000 for _ in range(10))
            answer = httpx.post(server.url + "/v1/predict", content=chunks, headers={"Content-Type": "application/json"})
            assert problem(answer) == (413, "too_large")
            assert answer.headers["connection"] == "close"

    def test_a_huge_body_is_refused_before_it_is_sent(self, server: Running) -> None:
        place = httpx.URL(server.url)
        with socket.create_connection((place.host, place.port or 0), timeout=10) as connection:
            connection.sendall(ASK.encode() + b"Content-Length: 100000000000\r\n\r\n{")
            assert b" 413 " in connection.makefile("rb").readline()

    def test_a_compressed_body(self, server: Running) -> None:
        answer = post(server, "/v1/predict", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        assert problem(answer) == (415, "compressed")

    def test_a_body_that_does_not_come(self, folder: Path) -> None:
        with running(folder, deadline=0.3) as server:
            place = httpx.URL(server.url)
            with socket.create_connection((place.host, place.port or 0), timeout=10) as connection:
                connection.sendall(ASK.encode() + b"Content-Length: 10\r\n\r\n{")
                assert b" 408 " in connection.makefile("rb").readline()
            assert server.idle()


class TestRequestIds:
    def test_the_clients_id_comes_back(self, server: Running) -> None:
        answer = post(server, "/v1/predict", {"texts": "a"}, headers={"X-Request-ID": "order-17.a"})
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == "order-17.a"

    @pytest.mark.parametrize("given", ["a b", "x" * 65, '"', "é"])
    def test_a_strange_id_is_replaced(self, server: Running, given: str) -> None:
        answer = post(server, "/v1/predict", {"texts": "a"}, headers={b"X-Request-ID": given.encode()})
        assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


class TestConcurrency:
    def test_replies_are_never_crossed_lost_or_doubled(self, server: Running, model: bundle.Model) -> None:
        async def work() -> None:
            async with client(server, 32) as http:

                async def one(number: int) -> None:
                    texts = [nonce(number * 4 + row) for row in range(1 + number % 4)]
                    name = f"n-{number}"
                    answer = await http.post("/v1/predict", json={"texts": texts}, headers={"X-Request-ID": name})
                    assert answer.json()["request_id"] == name
                    for said, expected in zip(answer.json()["predictions"], model.predict(texts), strict=True):
                        assert said["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-6)

                await asyncio.gather(*(one(number) for number in range(300)))

        together(work())
        assert server.idle()
        assert metric(server, "refsynth_batch_rows_count") < metric(server, "refsynth_batch_rows_sum"), "nothing was batched"

    def test_a_poisoned_row_fails_alone(self, folder: Path, model: bundle.Model) -> None:
        with running(folder, before=refuse_poison) as server:

            async def work() -> tuple[int, int]:
                async with client(server, 32) as http:

                    async def one(number: int) -> int:
                        text = "poison" if number % 5 == 0 else nonce(number)
                        answer = await http.post("/v1/predict", json={"texts": text})
                        if answer.status_code == 200:
                            expected = dict(model.predict([text])[0].probabilities)
                            assert answer.json()["predictions"][0]["probabilities"] == pytest.approx(expected, abs=1e-6)
                        else:
                            assert problem(answer) == (500, "prediction_failed")
                            assert "secret" not in answer.text
                        return answer.status_code

                    statuses = await asyncio.gather(*(one(number) for number in range(200)))
                    return statuses.count(200), statuses.count(500)

            assert together(work()) == (160, 40)
            said = post(server, "/v1/predict", {"texts": ["poison", nonce(1)]})
            assert said.status_code == 200
            bad, good = said.json()["predictions"]
            assert bad == {"error": {"code": "prediction_failed", "message": "the model failed on this text (ValueError)"}}
            assert good["label"] == model.predict([nonce(1)])[0].label

    def test_clients_that_hang_up_leave_no_slot_behind(self, folder: Path) -> None:
        with running(folder, before=slow(0.02), queue_rows=300, requests=1000) as server:

            async def work() -> None:
                async with client(server, 100) as http:

                    async def one(number: int) -> None:
                        try:
                            async with asyncio.timeout(0.01 * (number % 7)):
                                await http.post("/v1/predict", json={"texts": nonce(number)})
                        except TimeoutError:
                            pass

                    await asyncio.gather(*(one(number) for number in range(300)))

            together(work())
            assert server.idle()
            assert server.service.batcher.wait == 0
            assert post(server, "/v1/predict", {"texts": "a"}).status_code == 200

    def test_whoever_hangs_up_in_the_queue_leaves_it_at_once(self, folder: Path) -> None:
        opened = threading.Event()
        with running(folder, before=lambda texts: opened.wait(20) and None, ready=False) as server:
            place = httpx.URL(server.url)
            body = b'{"texts": ["a", "b"]}'
            head = f"{ASK}Content-Length: {len(body)}\r\n\r\n".encode()
            connections = [socket.create_connection((place.host, place.port or 0)) for _ in range(20)]
            for connection in connections:
                connection.sendall(head + body)
            assert eventually(lambda: server.service.batcher.queued == 40)
            for connection in connections:
                connection.close()
            assert eventually(lambda: server.service.batcher.queued == 0)  # while the model still holds its batch
            opened.set()
            assert server.idle()

    def test_overload_gives_every_request_a_definite_reply(self, folder: Path) -> None:
        options = {"deadline": 1.5, "batch_rows": 4, "queue_rows": 400, "requests": 60}
        with running(folder, before=slow(0.01, per="row"), **options) as server:

            async def work() -> list[httpx.Response]:
                async with client(server, 80) as http:

                    async def user(number: int) -> list[httpx.Response]:
                        return [await http.post("/v1/predict", json={"texts": [nonce(number)] * 4}) for _ in range(4)]

                    return [answer for answers in await asyncio.gather(*map(user, range(80))) for answer in answers]

            answers = together(work())
            assert len(answers) == 320
            assert {answer.status_code for answer in answers} <= {200, 503, 504}
            refused = [answer for answer in answers if answer.status_code == 503]
            assert refused
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
            assert {problem(answer)[1] for answer in refused} <= {"queue_full", "busy"}
            assert sum(answer.status_code == 200 for answer in answers) >= 30
            assert server.idle()

    def test_a_deadline_is_kept_and_the_slot_freed(self, folder: Path) -> None:
        stuck = threading.Event()
        with running(
            folder, before=lambda texts: any("stuck" in text for text in texts) and stuck.wait(20), deadline=0.3
        ) as server:
            started = time.monotonic()
            assert problem(post(server, "/v1/predict", {"texts": "stuck"})) == (504, "deadline")
            assert time.monotonic() - started < 5
            stuck.set()
            assert server.idle()
            assert post(server, "/v1/predict", {"texts": "a"}).status_code == 200


class TestHealth:
    def test_live_and_ready(self, server: Running) -> None:
        assert httpx.get(server.url + "/health/live").json() == {"status": "live"}
        ready = httpx.get(server.url + "/health/ready")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)

    def test_a_hung_model_is_live_but_not_ready_and_comes_back(self, folder: Path) -> None:
        stuck, held = threading.Event(), threading.Event()
        stuck.set()

        def hang(texts: Sequence[str]) -> None:
            if not stuck.is_set():
                held.set()
                assert stuck.wait(20)

        with running(folder, before=hang, hang=0.6) as server:
            stuck.clear()
            assert held.wait(5)
            assert eventually(lambda: httpx.get(server.url + "/health/ready").status_code == 503)
            answer = httpx.get(server.url + "/health/ready")
            assert answer.json()["problems"] == ["the model does not answer"]
            assert answer.headers["retry-after"] == "1"
            assert httpx.get(server.url + "/health/live").status_code == 200
            stuck.set()
            assert eventually(lambda: httpx.get(server.url + "/health/ready").status_code == 200)

    def test_a_model_that_raises_is_not_ready(self, folder: Path) -> None:
        broken = threading.Event()

        def fail(texts: Sequence[str]) -> None:
            if broken.is_set():
                raise MemoryError

        with running(folder, before=fail) as server:
            broken.set()
            assert eventually(lambda: httpx.get(server.url + "/health/ready").status_code == 503)
            assert httpx.get(server.url + "/health/ready").json()["problems"] == ["the model fails (MemoryError)"]

    def test_wrong_golden_answers_are_not_ready(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "PERIOD", 0.02)
        other = bundle.load(save_bundle(tmp_path / "other", seed=1))
        with running(folder) as server:
            server.service.engine.current.model.answer = other.answer  # type: ignore[method-assign]
            assert eventually(lambda: httpx.get(server.url + "/health/ready").status_code == 503)
            assert httpx.get(server.url + "/health/ready").json()["problems"] == ["golden texts are answered wrongly"]

    def test_a_full_queue_is_not_ready(self, folder: Path) -> None:
        opened = threading.Event()
        with running(
            folder, before=lambda texts: "stuck" in texts and opened.wait(20) and None, queue_rows=4, most_texts=4, hang=10
        ) as server:
            threads = [threading.Thread(target=post, args=(server, "/v1/predict", {"texts": ["stuck"] * 4})) for _ in range(2)]
            for thread in threads:
                thread.start()
                time.sleep(0.1)
            assert eventually(lambda: server.service.batcher.queued >= 4)
            assert "overloaded" in httpx.get(server.url + "/health/ready").json()["problems"]
            opened.set()
            for thread in threads:
                thread.join(10)
            assert eventually(lambda: httpx.get(server.url + "/health/ready").status_code == 200)


class Keys:
    required = True

    def check(self, presented: str | None) -> interfaces.Caller | None:
        known = {"all": interfaces.SCOPES, "some": frozenset(("predict",))}
        if presented == "broken":
            raise InputError("the file of keys is gone")
        return interfaces.Caller(f"id-{presented}", known[presented]) if presented in known else None


class Quota:
    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, key: str, n: int) -> float:
        if n > self.left:
            return 2.5
        self.left -= n
        return 0.0


class TestGuards:
    def test_every_route_but_health_wants_a_key(self, folder: Path) -> None:
        with running(folder, guards=interfaces.Guards(keys=Keys())) as server:
            described = httpx.get(server.url + "/openapi.json").json()
            guarded = [
                (path, method) for path, methods in described["paths"].items() for method in methods if "/health/" not in path
            ]
            assert len(guarded) == 6
            for path, method in [*guarded, ("/metrics", "get")]:
                for header in (
                    {},
                    {"Authorization": "Bearer wrong"},
                    {"Authorization": "Basic all"},
                    {"Authorization": "Bearer"},
                ):
                    answer = httpx.request(method, server.url + path, content=b"not read" * 10, headers=header)
                    assert problem(answer) == (401, "unauthorized"), path
                    assert answer.headers["www-authenticate"] == "Bearer"
            some = {"Authorization": "Bearer some"}
            assert post(server, "/v1/predict", {"texts": "a"}, headers=some).status_code == 200
            assert problem(post(server, "/v1/explain", {"text": "a"}, headers=some)) == (403, "forbidden")
            assert problem(httpx.get(server.url + "/metrics", headers=some)) == (403, "forbidden")
            assert httpx.get(server.url + "/metrics", headers={"Authorization": "bearer all"}).status_code == 200
            assert httpx.get(server.url + "/health/ready").status_code == 200
            assert described["paths"]["/v1/predict"]["post"]["security"] == [{"key": []}]

    def test_a_quota_counts_texts_and_says_when_to_come_back(self, folder: Path) -> None:
        with running(folder, guards=interfaces.Guards(limiter=Quota(5))) as server:
            assert post(server, "/v1/predict", {"texts": ["a"] * 4}).status_code == 200
            answer = post(server, "/v1/predict", {"texts": ["a"] * 2})
            assert problem(answer) == (429, "over_quota")
            assert answer.headers["retry-after"] == "3"
            assert post(server, "/v1/predict", {"texts": "a"}).status_code == 200

    def test_answers_and_feedback_reach_the_recorder(self, folder: Path) -> None:
        memory = Memory()
        with running(folder, guards=interfaces.Guards(keys=Keys(), recorder=memory)) as server:
            key = {"Authorization": "Bearer all", "X-Request-ID": "r1"}
            said = post(server, "/v1/predict", {"texts": ["w1", "w2"]}, headers=key).json()["predictions"]
            assert [(one.request_id, one.row, one.text, one.label, one.key) for one in memory.served] == [
                ("r1", 0, "w1", said[0]["label"], "id-all"),
                ("r1", 1, "w2", said[1]["label"], "id-all"),
            ]
            body = {"request_id": "r1", "row": 1, "label": "other"}
            for label, outcome in (("other", "stored"), ("other", "repeated"), ("billing", "changed")):
                answer = post(server, "/v1/feedback", {**body, "label": label}, headers=key)
                assert answer.json() == {"request_id": "r1", "row": 1, "outcome": outcome}
            assert memory.said == {("r1", 1): "billing"}
            for spelled in (" other", "other\u00a0\n"):  # the same value, as in files
                assert post(server, "/v1/feedback", {**body, "label": spelled}, headers=key).status_code == 200
                assert memory.said == {("r1", 1): "other"}
            for wrong in ("none", "Other", "", "oth er"):
                assert problem(post(server, "/v1/feedback", {**body, "label": wrong}, headers=key)) == (422, "invalid")
            assert problem(post(server, "/v1/feedback", {**body, "request_id": "a b"}, headers=key)) == (422, "invalid")
        assert memory.closed

    def test_when_keys_cannot_be_checked_nobody_gets_in(self, folder: Path) -> None:
        with running(folder, guards=interfaces.Guards(keys=Keys())) as server:
            answer = post(server, "/v1/predict", {"texts": "a"}, headers={"Authorization": "Bearer broken"})
            assert problem(answer) == (503, "keys_unavailable")
            assert answer.headers["retry-after"] == "1"

    def test_without_a_record_feedback_is_not_taken(self, server: Running) -> None:
        assert problem(post(server, "/v1/feedback", {"request_id": "r", "label": "other"})) == (404, "no_record")

    def test_feedback_that_cannot_be_written_is_not_acknowledged(self, folder: Path) -> None:
        with running(folder, guards=interfaces.Guards(recorder=Memory(broken=True))) as server:
            answer = post(server, "/v1/feedback", {"request_id": "r", "label": "other"})
            assert problem(answer) == (503, "record_unavailable")
            assert answer.headers["retry-after"] == "1"


class TestMetrics:
    def test_they_count_by_route_and_status_and_hold_no_text(self, folder: Path) -> None:
        with running(folder) as server:
            for _ in range(3):
                post(server, "/v1/predict", {"texts": ["xyzzy", "w1"]})
            post(server, "/v1/predict", {"texts": []})
            httpx.get(server.url + "/xyzzy/17")
            text = httpx.get(server.url + "/metrics").text
            assert 'refsynth_requests_total{code="200",route="/v1/predict"} 3.0' in text
            assert 'refsynth_requests_total{code="422",route="/v1/predict"} 1.0' in text
            assert 'refsynth_requests_total{code="404",route="other"} 1.0' in text
            assert re.search(r'refsynth_model_info{task="[0-9a-f]+",tier="exact"', text)
            assert "xyzzy" not in text
            decided = re.findall(r'^refsynth_tier_decisions_total\{outcome="\w+",tier="exact"\} (\S+)$', text, re.MULTILINE)
            assert sum(map(float, decided)) == 6
            assert metric(server, "refsynth_inflight_requests") == 1  # the scrape itself


class TestDescription:
    def test_examples_are_valid_requests_and_statuses_are_documented(self, server: Running) -> None:
        described = httpx.get(server.url + "/openapi.json").json()
        for path in ("/v1/predict", "/predict", "/v1/explain"):
            operation = described["paths"][path]["post"]
            example = operation["requestBody"]["content"]["application/json"]["schema"]["example"]
            assert post(server, path, example).status_code == 200
            assert {"200", "401", "403", "413", "422", "429", "503", "504"} <= set(operation["responses"])


class TestSettings:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
    def test_loopback_needs_no_keys(self, host: str) -> None:
        check_exposure(host, keyed=False)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
    def test_other_addresses_do(self, host: str) -> None:
        check_exposure(host, keyed=True)
        with pytest.raises(ConfigError, match="no keys"):
            check_exposure(host, keyed=False)

    @pytest.mark.parametrize(
        "wrong", [{"most_texts": 10, "queue_rows": 5}, {"drain": 5, "deadline": 5}, {"workers": 0}, {"colour": 1}]
    )
    def test_limits_that_do_not_fit_together_are_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ConfigError):
            Settings.of(bundle=Path("b"), **wrong)

    @pytest.mark.parametrize(("field", "option"), [("most_texts", "--texts"), ("queue_rows", "--queue-rows")])
    def test_an_option_that_is_refused_is_named_as_on_the_command_line(self, field: str, option: str) -> None:
        with pytest.raises(ConfigError, match=f"^{option}: "):
            Settings.of(bundle=Path("b"), **{field: 0})


def test_labels_of_the_tiny_bundle(model: bundle.Model) -> None:
    assert model.labels == LABELS
    assert len({tuple(row) for row in model.probabilities([nonce(number) for number in range(3000)]).round(9)}) == 3000


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(save_bundle(tmp_path_factory.mktemp("pairs") / "bundle", task="pairs")) as started:
        yield started


class TestPairs:
    def test_two_texts_are_one_pair_in_every_form(self, pairs: Running) -> None:
        first, second = nonce(1), nonce(2)
        joined = join_pair(first, second)
        (said,) = pairs.service.engine.current.model.predict([joined])
        texts = post(pairs, "/v1/predict", {"texts": [[first, second], joined]}).json()["predictions"]
        assert [one["probabilities"] for one in texts] == [pytest.approx(dict(said.probabilities), abs=1e-6)] * 2
        batch = post(pairs, "/predict", {"inputs": [[first, second]]}).json()
        one = post(pairs, "/predict", {"inputs": [first, second]}).json()
        assert batch[0] == one
        assert {row["label"]: row["score"] for row in one} == pytest.approx(dict(said.probabilities), abs=1e-6)
        reason = post(pairs, "/v1/explain", {"text": [first, second]}).json()
        assert reason["label"] == said.label
        assert httpx.get(pairs.url + "/v1/models").json()["data"][0]["task"] == "pairs"

    @pytest.mark.parametrize("wrong", ["alone", ["alone"], [["a"]], [["a", " "]], [["a", "b", "c"]], [[]]])
    def test_what_is_no_pair_is_refused(self, pairs: Running, wrong: Any) -> None:
        answer = post(pairs, "/v1/predict", {"texts": wrong})
        assert problem(answer) == (422, "invalid")
        assert "[first, second]" in answer.text

    def test_a_pair_for_a_bundle_of_single_texts_is_refused(self, server: Running) -> None:
        answer = post(server, "/v1/predict", {"texts": ["a", ["b", "c"]]})
        assert problem(answer) == (422, "invalid")
        assert "texts[1]" in answer.text


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    recorder = Memory()
    with running(
        save_bundle(tmp_path_factory.mktemp("sets") / "bundle", task="multilabel"), guards=interfaces.Guards(recorder=recorder)
    ) as started:
        yield started


class TestSets:
    def test_a_text_has_all_labels_that_reach_their_thresholds(self, sets: Running) -> None:
        texts = [nonce(number) for number in range(20)]
        said = sets.service.engine.current.model.predict(texts)
        shown = post(sets, "/v1/predict", {"texts": texts}).json()["predictions"]
        assert len({len(one["labels"]) for one in shown}) > 2
        for one, expected in zip(shown, said, strict=True):
            assert "label" not in one
            assert tuple(one["labels"]) == expected.labels
            assert set(one["labels"]) == {label for label, value in expected.probabilities.items() if value >= 0.4}
            assert one["probability"] == pytest.approx(expected.probability, abs=1e-6)
            assert one["abstain"] == (expected.probability < 0.4)
        with refsynth.Client(sets.url) as client:
            assert [one.labels for one in client.predict(texts).predictions] == [one.labels for one in said]

    def test_scores_of_tei_are_of_each_label_by_itself(self, sets: Running) -> None:
        scores = {one["label"]: one["score"] for one in post(sets, "/predict", {"inputs": nonce(3)}).json()}
        (expected,) = sets.service.engine.current.model.predict([nonce(3)])
        assert scores == pytest.approx(dict(expected.probabilities), abs=1e-6)
        assert sum(scores.values()) != pytest.approx(1, abs=1e-3)

    @pytest.mark.parametrize("label", [None, *LABELS])
    def test_one_label_is_explained_exactly(self, sets: Running, label: str | None) -> None:
        said = post(sets, "/v1/explain", {"text": nonce(4), "label": label and f" {label} "}).json()
        (expected,) = sets.service.engine.current.model.predict([nonce(4)])
        p = expected.probabilities[said["label"]]
        assert said["label"] == (label or expected.likeliest)
        total = said["base"] + said["rest"] + sum(part["value"] for part in said["parts"])
        assert total == pytest.approx(math.log(p / (1 - p)), abs=1e-5)

    @pytest.mark.parametrize(("labels", "kept"), [(["other ", "billing", "billing\n"], "billing + other"), ([], "(none)")])
    def test_feedback_is_a_set(self, sets: Running, labels: list[str], kept: str) -> None:
        body = {"request_id": f"r-{len(labels)}", "labels": labels}
        assert post(sets, "/v1/feedback", body).json()["outcome"] == "stored"
        assert sets.service.guards.recorder.said[f"r-{len(labels)}", 0] == kept

    @pytest.mark.parametrize("wrong", [{"label": "billing"}, {"labels": ["nope"]}, {}, {"label": "billing", "labels": []}])
    def test_feedback_of_another_form_is_refused(self, sets: Running, wrong: dict[str, Any]) -> None:
        assert problem(post(sets, "/v1/feedback", {"request_id": "r", **wrong})) == (422, "invalid")

    def test_labels_that_were_merged_are_known_in_any_case(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "merged")
        manifest = json.loads((tmp_path / "merged" / "manifest.json").read_text())
        manifest["merge"] = True
        (tmp_path / "merged" / "manifest.json").write_text(json.dumps(manifest))
        memory = Memory()
        with running(tmp_path / "merged", guards=interfaces.Guards(recorder=memory)) as server:
            for row, label in enumerate(("BILLING", "Billing ", "ｂilling")):
                answer = post(server, "/v1/feedback", {"request_id": "r", "row": row, "label": label})
                assert answer.json()["outcome"] == "stored" and memory.said["r", row] == "billing"
            assert post(server, "/v1/explain", {"text": nonce(4), "label": "BILLING"}).json()["label"] == "billing"

    def test_a_set_for_a_bundle_of_one_label_is_refused(self, folder: Path) -> None:
        with running(folder, guards=interfaces.Guards(recorder=Memory())) as server:
            answer = post(server, "/v1/feedback", {"request_id": "r", "labels": ["billing"]})
            assert problem(answer) == (422, "invalid")
