"""A run under a contract: what ships, what the report tells, and what the command line says where nothing keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import refsynth
from refsynth.cli.app import app
from refsynth.compress import shrink
from refsynth.compress.forms import Teacher
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, GateError
from refsynth.core.protocols import Predictor
from refsynth.core.types import Array
from refsynth.evaluation.calibration import fit_temperature
from refsynth.learning.folds import Fold, folds_of
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import RunResult, run
from tests.support.runs import make_task, write_rows


def run_under(where: Path, cache: Path, contract: dict[str, float], **changes: object) -> RunResult:
    task = make_task(where / "data", synthesis={"drafts": 0}, contract=contract, **changes)
    return run(task, where / "out", store=ModelStore(cache))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> RunResult:
    return run_under(tmp_path_factory.mktemp("small"), tiny_cache, {"keep": 0.01}, learners=["frozen"])


@pytest.mark.slow
def test_the_smallest_form_that_keeps_it_ships(small: RunResult) -> None:
    outcome = small.evidence.shrunk.outcome
    assert outcome is not None
    assert outcome.met
    assert outcome.shipped.size_mb == min(form.size_mb for form in outcome.forms)
    model = refsynth.load(small.bundle)
    assert model.manifest.lineage["form"] == outcome.shipped.name != "full"
    assert model.predict(["my parcel is late"])[0].label in ("late", "broken")
    assert sum(path.stat().st_size for path in small.bundle.iterdir()) / 1e6 == pytest.approx(outcome.shipped.size_mb, rel=0.1)


@pytest.mark.slow
def test_the_report_has_all_forms_and_marks_the_one_that_ships(small: RunResult) -> None:
    compression = small.report.compression
    assert compression is not None
    assert compression.met
    assert [variant.name for variant in compression.variants if variant.shipped] == [small.evidence.shrunk.name]
    html, markdown = small.paths.html.read_text("utf-8"), small.paths.markdown.read_text("utf-8")
    assert "Asked for: keeps at least 1.0%" in html
    assert "frontier" in html
    assert "half, narrow" in markdown


@pytest.mark.slow
def test_running_again_makes_no_form_again(small: RunResult, tiny_cache: Path) -> None:
    steps = small.evidence.folder.steps
    before = {path.name: path.stat().st_mtime_ns for path in steps.glob("*/step.json")}
    run(small.evidence.task, small.evidence.folder.path, store=ModelStore(tiny_cache))
    assert {path.name: path.stat().st_mtime_ns for path in steps.glob("*/step.json")} == before


@pytest.mark.slow
def test_what_nothing_keeps_ends_with_3_and_the_nearest_bundle(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path / "data")
    tree = json.loads(task.config.model_dump_json(exclude_defaults=True))
    tree |= {"synthesis": {"drafts": 0}, "learners": ["frozen"], "contract": {"size_mb": 0.001}}
    (tmp_path / "task.yaml").write_text(json.dumps(tree), "utf-8")
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))
    result = CliRunner().invoke(app, ["run", str(tmp_path / "task.yaml"), "--out", str(tmp_path / "out"), "--json"])
    assert isinstance(result.exception, GateError)
    assert result.exception.exit_code == 3
    assert "at most 0.001 MB" in str(result.exception)
    summary = json.loads(result.stdout)
    assert summary["contract"]["met"] is False
    assert summary["contract"]["shipped"]["name"] == "half, narrow, few words"
    assert refsynth.load(tmp_path / "out" / "bundle").labels == ("late", "broken")


def test_tfidf_is_a_form_too(tmp_path: Path, tiny_cache: Path) -> None:
    result = run_under(tmp_path, tiny_cache, {"size_mb": 0.05}, learners=["tfidf", "frozen"])
    outcome = result.evidence.shrunk.outcome
    assert outcome is not None
    assert outcome.shipped.name == "tfidf"
    assert refsynth.load(result.bundle).manifest.last.kind == "tfidf"


@pytest.mark.parametrize("contract", [{"keep": 1.5}, {"p50_ms": 0}, {"size_mb": -1}, {"latency": 3}])
def test_a_contract_that_means_nothing_is_refused(contract: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="contract"):
        RunConfig.parse({"labels": ["a", "b"], "contract": contract})


def test_a_model_is_calibrated_to_what_it_says_in_int8(tmp_path: Path, tiny_cache: Path) -> None:
    result = run_under(tmp_path, tiny_cache, {}, learners=["tfidf", "frozen"])
    held = result.evidence.learned.held
    assert held is not None
    assert {candidate.learner for candidate in held.int8} == {"frozen"}
    for candidate, said in held.int8.items():
        assert (said != held.logits[candidate]).any()
        assert np.abs(said - held.logits[candidate]).max() < 0.3
    shipped = held.as_shipped(result.evidence.learned.decision.shipped)
    temperature = fit_temperature(shipped.reshape(-1, 2), np.concatenate([held.truth] * len(shipped)))
    assert refsynth.load(result.bundle).manifest.calibration.temperature == pytest.approx(temperature)


@pytest.mark.slow
def test_a_form_is_cut_from_the_very_model_that_the_gate_measured(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping, the drafts that are left, the folds of each repeat: all as in the gate."""
    taught: dict[tuple[int, int], Predictor] = {}
    cut, measure = shrink.shrink, shrink.Shrinker._fold
    now: list[Fold] = []

    def measuring(self: shrink.Shrinker, name: str, fold: Fold) -> Array:
        now[:] = [fold]
        return measure(self, name, fold)

    def cutting(teacher: Teacher, name: str, texts: list[str], *, seed: int) -> Predictor:
        if now:
            taught.setdefault((now[0].repeat, now[0].number), teacher.predictor)
        return cut(teacher, name, texts, seed=seed)

    monkeypatch.setattr(shrink.Shrinker, "_fold", measuring)
    monkeypatch.setattr(shrink, "shrink", cutting)
    training, gate = {"validation": 0.4, "epochs": 4, "patience": 1}, {"folds": 3, "repeats": 2}
    contract = {"keep": 0.01}
    task = make_task(
        tmp_path / "data", synthesis={"drafts": 0}, contract=contract, learners=["finetune"], training=training, gate=gate
    )
    write_rows(tmp_path / "data" / "train.jsonl", 30, 1)
    result = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    held, shipped = result.evidence.learned.held, result.evidence.learned.decision.shipped
    assert held is not None
    assert held.folds.shape == (2, 60)
    assert len({tuple(folds) for folds in held.folds.tolist()}) == 2
    assert len(taught) == 6
    for fold in folds_of(result.evidence.task, result.evidence.learned.rows):
        said = taught[fold.repeat, fold.number].logits(fold.texts)
        np.testing.assert_allclose(said, held.logits[shipped][fold.repeat, fold.places], atol=1e-4)
