"""What one key does must not reach what another got: request ids, feedback, quotas, and the file of keys itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from refsynth.cli.guards import compose, prepare
from refsynth.core.errors import InputError
from refsynth.service.http import app as app_module
from refsynth.service.http.auth import SCOPES, FileKeyChecker, Keyring
from refsynth.service.monitor.record import PredictionRecord
from serving import Running, running, save_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("isolation") / "bundle")


class Two:
    """Two keys of one server with a record."""

    def __init__(self, server: Running, ring: Keyring, where: Path, **options: Any) -> None:
        self.url, self.where = server.url, where
        self.headers = {
            name: {"Authorization": f"Bearer {ring.add(name, scopes=SCOPES, **options).presented}"} for name in ("ours", "theirs")
        }

    def post(self, name: str, path: str, body: Any, request_id: str = "") -> httpx.Response:
        headers = {**self.headers[name], **({"X-Request-ID": request_id} if request_id else {})}
        return httpx.post(self.url + path, json=body, headers=headers, timeout=30)

    def say(self, name: str, request_id: str, label: str, row: int = 0) -> httpx.Response:
        return self.post(name, "/v1/feedback", {"request_id": request_id, "row": row, "label": label})

    def given(self) -> list[tuple[str, int, str]]:
        rows = httpx.get(self.url + "/v1/feedback", headers=self.headers["ours"]).json()["data"]
        return sorted((row["request_id"], row["row"], row["label"]) for row in rows)


@pytest.fixture
def two(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    monkeypatch.setattr(app_module, "PAUSES", (0.3, 0.3))
    ring, where = Keyring(tmp_path / "keys.json"), tmp_path / "record.sqlite"
    ring.add("first", scopes=SCOPES)
    prepare({"record": str(where)})
    with running(folder, guards=compose({"keys": str(ring.path), "record": str(where)}, tmp_path)) as server:
        yield Two(server, ring, where)


class TestFeedback:
    def test_it_is_for_what_the_key_itself_got(self, two: Two) -> None:
        asked = two.post("theirs", "/v1/predict", {"texts": ["w1", "w2"]}).json()["request_id"]
        assert two.say("theirs", asked, "other", row=1).json()["outcome"] == "stored"
        for name, request_id, row in (("ours", asked, 0), ("ours", asked, 1), ("theirs", asked, 2), ("theirs", "never-was", 0)):
            reply = two.say(name, request_id, "billing", row)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_request"), (name, row)
        assert two.given() == [(asked, 1, "other")]

    @pytest.mark.parametrize("chosen", ["order-1", "a:b", "0" * 64])
    def test_two_keys_may_choose_one_id(self, two: Two, chosen: str) -> None:
        for name, text in (("theirs", "w1"), ("ours", "w2")):
            assert two.post(name, "/v1/predict", {"texts": text}, chosen).json()["request_id"] == chosen
        assert two.say("ours", chosen, "billing").json()["outcome"] == "stored"
        assert two.say("theirs", chosen, "other").json()["outcome"] == "stored"
        assert two.say("ours", chosen, "billing").json()["outcome"] == "repeated"
        assert two.given() == [(chosen, 0, "billing"), (chosen, 0, "other")]
        record = PredictionRecord.open(two.where, tables="check")
        assert {one.source for one in record.recent_feedback(9)} == {
            headers["Authorization"].split("_")[1] for headers in two.headers.values()
        }
        assert all(one.predicted for one in record.recent_feedback(9))
        record.close()

    def test_an_id_that_looks_like_that_of_another_key_is_another(self, two: Two) -> None:
        number = two.headers["theirs"]["Authorization"].split("_")[1]
        two.post("theirs", "/v1/predict", {"texts": "w1"}, "x")
        two.post("ours", "/v1/predict", {"texts": "w1"}, f"{number}:x")
        assert two.say("ours", "x", "other").status_code == 404
        assert two.say("ours", f"{number}:x", "other").status_code == 200
        assert two.given() == [(f"{number}:x", 0, "other")]

    def test_it_is_taken_at_once_after_the_answer(self, two: Two) -> None:
        for number in range(5):
            asked = two.post("ours", "/v1/predict", {"texts": f"w{number}"}).json()["request_id"]
            assert two.say("ours", asked, "other").status_code == 200


class TestQuota:
    @pytest.fixture
    def metered(self, folder: Path, tmp_path: Path) -> Iterator[Two]:
        ring, where = Keyring(tmp_path / "keys.json"), tmp_path / "record.sqlite"
        ring.add("first", scopes=SCOPES)
        prepare({"record": str(where)})
        with running(folder, guards=compose({"keys": str(ring.path), "record": str(where)}, tmp_path)) as server:
            server.service.engine.current.model.additive = lambda text: False  # explained as an encoder is
            yield Two(server, ring, where, rate=0.001, burst=6)

    def test_an_explanation_costs_the_predictions_that_it_makes(self, metered: Two) -> None:
        assert metered.post("ours", "/v1/explain", {"text": "w1 w2 w3 w4"}).status_code == 200  # five
        assert metered.post("ours", "/v1/predict", {"texts": ["w1", "w2"]}).status_code == 429
        assert metered.post("ours", "/v1/predict", {"texts": "w1"}).status_code == 200
        assert metered.post("ours", "/v1/explain", {"text": "w1"}).status_code == 429

    def test_feedback_costs_too(self, metered: Two) -> None:
        asked = metered.post("theirs", "/v1/predict", {"texts": ["w1", "w2", "w3"]}).json()["request_id"]
        assert [metered.say("theirs", asked, "other", row).status_code for row in (0, 1, 2, 0)] == [200, 200, 200, 429]
        assert metered.post("ours", "/v1/predict", {"texts": "w1"}).status_code == 200

    def test_what_is_refused_costs_nothing(self, metered: Two) -> None:
        for _ in range(10):
            assert metered.post("ours", "/v1/predict", {"texts": [""]}).status_code == 422
            assert metered.post("ours", "/v1/feedback", {"request_id": "a", "label": "none"}).status_code == 422
            assert metered.post("ours", "/v1/explain", {"text": "w1 w2", "label": "none"}).status_code == 422
        assert metered.post("ours", "/v1/predict", {"texts": ["", "w1", "w2", "w3", "w4", "w5", "w6"]}).status_code == 200


class TestFileOfKeys:
    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o660])
    def test_one_that_others_may_write_is_refused(self, tmp_path: Path, mode: int) -> None:
        ring = Keyring(tmp_path / "keys.json")
        presented = ring.add("context", scopes=["predict"]).presented
        checker = FileKeyChecker(ring.path)
        ring.path.chmod(mode)
        for refused in (lambda: FileKeyChecker(ring.path), ring.keys, lambda: ring.add("more", scopes=["predict"])):
            with pytest.raises(InputError, match=f"{mode:03o}.*\n.*\n.*chmod go-w .*keys.json"):
                refused()
        checker._due = 0.0
        with pytest.raises(Exception, match="cannot be checked"):
            checker.identify(presented)
        ring.path.chmod(0o640)
        checker.identify(presented)

    @pytest.mark.parametrize(("mode", "good"), [(0o770, False), (0o777, False), (0o755, True), (0o1777, True), (0o750, True)])
    def test_and_so_is_a_folder_in_which_they_could_replace_it(self, tmp_path: Path, mode: int, good: bool) -> None:
        place = tmp_path / "keys"
        Keyring(place / "keys.json").add("context", scopes=["predict"])
        place.chmod(mode)
        if good:
            FileKeyChecker(place / "keys.json")
        else:
            with pytest.raises(InputError, match="folder of keys"):
                FileKeyChecker(place / "keys.json")
