"""Metrics, readiness and log tell what is so: answers by label, explanations apart, a record that fails, lines that are lost."""

from __future__ import annotations

import logging
import math
import sqlite3
from pathlib import Path

import httpx
import pytest

from refsynth.cli.guards import DatabaseRecorder
from refsynth.core.types import Entity, Prediction
from refsynth.service.http import dependencies, logs
from refsynth.service.http.engine import Answer
from refsynth.service.http.interfaces import Guards, RecordStatus
from refsynth.service.http.metrics import MOST_LABELS, Metrics
from refsynth.service.monitor.record import PredictionRecord
from tests.support.asking import metrics_of
from tests.support.serving import LABELS, eventually, running, save_bundle

KINDS = {
    "one": (Prediction("a", {"a": 0.9, "b": 0.1}), {"a": 1}),
    "several": (Prediction("ab", {"a": 0.9, "b": 0.8}, labels=("a", "b")), {"a": 1, "b": 1}),
    "none of several": (Prediction("", {"a": 0.1, "b": 0.2}, labels=()), {"(none)": 1}),
    "entities": (
        Prediction("", {"a": 0.9, "b": 0.1}, entities=(Entity(0, 1, "a", 0.9), Entity(2, 3, "a", 0.9)), certainty=0.5),
        {"a": 1},
    ),
    "no entities": (Prediction("", {"a": 0.1, "b": 0.1}, entities=(), certainty=0.5), {"(none)": 1}),
    "a label without a series": (Prediction("z", {"z": 1.0}), {"(other)": 1}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_counted_by_label_with_their_probability(kind: str) -> None:
    said, expected = KINDS[kind]
    metrics = Metrics()
    metrics._labels = frozenset({"a", "b", "(none)"})
    metrics.answer(Answer(said, "v", "int8"))
    lines = metrics.text().decode().splitlines()
    found = {line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith("refsynth_predictions_total{")}
    assert found == expected
    counted = {line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith("refsynth_confidence_count{")}
    assert counted == expected


def test_a_bundle_of_a_thousand_labels_has_few_series(tmp_path: Path) -> None:
    names = [f"label {n}" for n in range(1000)]
    with running(save_bundle(tmp_path / "b", labels=names)) as server:
        httpx.post(server.url + "/v1/predict", json={"texts": [f"w{n}" for n in range(200)]}, timeout=30)
        series = [name for name in metrics_of(server) if name.startswith("refsynth_predictions_total{")]
        assert 1 < len(series) <= MOST_LABELS + 2
        assert sum(metrics_of(server)[name] for name in series) == 200


def test_explanations_are_no_predictions(folder: Path) -> None:
    with running(folder) as server:
        httpx.post(server.url + "/v1/predict", json={"texts": ["w1", "w2"]})
        httpx.post(server.url + "/predict", json={"inputs": "w3"})
        for _ in range(5):
            assert httpx.post(server.url + "/v1/explain", json={"text": "w1 w2"}).status_code == 200
        found = metrics_of(server)
        assert sum(value for name, value in found.items() if name.startswith("refsynth_predictions_total{")) == 3
        assert sum(value for name, value in found.items() if name.startswith("refsynth_tier_decisions_total{")) == 3
        assert found["refsynth_explanations_total"] == 5
        assert {name.split('"')[1] for name in found if name.startswith("refsynth_predictions_total{")} <= set(LABELS)


def test_the_share_that_is_expected_to_be_unsure_is_the_bundles(folder: Path) -> None:
    with running(folder) as server:
        assert math.isnan(metrics_of(server)["refsynth_expected_unsure_ratio"])
        model = server.service.engine.current.model
        manifest = model.manifest
        last = manifest.last.model_copy(update={"calibration": manifest.calibration.model_copy(update={"coverage": 0.75})})
        model.manifest = manifest.model_copy(update={"tiers": (*manifest.tiers[:-1], last)})
        server.service.metrics.model(server.service.engine.current)
        assert metrics_of(server)["refsynth_expected_unsure_ratio"] == 0.25


def breakages() -> dict:
    return {
        "the table is gone": ("ALTER TABLE predictions RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO predictions"),
        "the disk is full": (
            "CREATE TRIGGER full BEFORE INSERT ON predictions BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
            "DROP TRIGGER full",
        ),
    }


@pytest.mark.parametrize("how", breakages())
def test_a_record_that_fails_is_a_metric_a_line_and_a_degraded_readiness(
    folder: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dependencies, "PERIOD", 0.05)
    caplog.set_level(logging.INFO)
    where = tmp_path / "record.sqlite"
    recorder = DatabaseRecorder(PredictionRecord.open(where), texts=False, keyed=False)
    breaks, mends = breakages()[how]
    with running(folder, guards=Guards(recorder=recorder)) as server:

        def ready() -> dict:
            answer = httpx.get(server.url + "/health/ready", timeout=10)
            return {"status": answer.status_code, **answer.json()}

        assert ready()["degraded"] is False
        change(where, breaks)
        for _ in range(3):
            assert httpx.post(server.url + "/v1/predict", json={"texts": ["w1", "w2"]}, timeout=10).status_code == 200
        assert eventually(lambda: ready()["degraded"])
        assert (ready()["status"], ready()["lacks"]) == (200, [dependencies.LACK])
        found = metrics_of(server)
        assert found["refsynth_record_failing"] == 1
        assert found['refsynth_record_errors_total{what="predictions"}'] >= 1
        assert found['refsynth_record_rows_total{outcome="taken"}'] == 6
        change(where, mends)
        assert eventually(lambda: not ready()["degraded"])
        assert eventually(lambda: metrics_of(server)['refsynth_record_rows_total{outcome="written"}'] == 6)
    said = [record.getMessage() for record in caplog.records if record.name == logs.LOGGER]
    assert said.count("record failing") == said.count("record written again") == 1


def change(where: Path, statement: str) -> None:
    connection = sqlite3.connect(where, timeout=10)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_feedback_that_cannot_be_written_is_counted_and_logged(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = tmp_path / "record.sqlite"
    recorder = DatabaseRecorder(PredictionRecord.open(where), texts=False, keyed=False)
    with running(folder, guards=Guards(recorder=recorder)) as server:
        change(where, "DROP TABLE feedback")
        said = httpx.post(server.url + "/v1/feedback", json={"request_id": "r", "label": LABELS[0]}, timeout=20)
        assert said.status_code == 503
        assert httpx.get(server.url + "/v1/feedback", timeout=20).status_code == 503
        found = metrics_of(server)
    assert [found[f'refsynth_record_errors_total{{what="{what}"}}'] for what in ("feedback", "reading")] == [1, 1]
    assert [record.getMessage() for record in caplog.records].count("record failed") == 2


class Lossy:
    """A recorder that drops what it takes."""

    enabled, texts, taken = True, False, 0

    def predictions(self, served) -> None:
        self.taken += len(served)

    def status(self) -> RecordStatus:
        return RecordStatus(taken=self.taken, dropped=self.taken)

    def close(self) -> None:
        pass


def test_dropped_answers_and_lost_lines_are_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dependencies, "PERIOD", 0.05)
    lost = [0]
    monkeypatch.setattr(logs, "dropped", lambda: lost[0])
    with running(folder, guards=Guards(recorder=Lossy())) as server:
        httpx.post(server.url + "/v1/predict", json={"texts": ["w1", "w2"]})
        lost[0] = 7
        assert eventually(lambda: metrics_of(server)["refsynth_log_lines_dropped_total"] == 7)
        assert eventually(lambda: metrics_of(server).get('refsynth_record_rows_total{outcome="dropped"}') == 2)
    said = [record.getMessage() for record in caplog.records if record.name == logs.LOGGER]
    assert "answers not recorded" in said
    assert "record closed" in said
