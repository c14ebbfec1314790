"""Whose figures a bundle and its report carry, and that they are of the bits that ship."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

import refsynth
from refsynth.bundle.manifest import Manifest
from refsynth.bundle.store import restate
from refsynth.compress.forms import RECIPES
from refsynth.compress.static import fit_static
from refsynth.compress.tiers import AGREEMENT, LEARNED
from refsynth.core.config import RunConfig
from refsynth.core.files import read_jsonl
from refsynth.core.hashes import derive_seed, file_digest
from refsynth.core.task import Task
from refsynth.core.types import Array, Metric
from refsynth.evaluation.headline import verdict
from refsynth.evaluation.sections import FIGURES
from refsynth.evaluation.testfile import _read
from refsynth.kinds import KINDS
from refsynth.learning.pool import reserve_half
from refsynth.learning.selftrain import UnlabeledText
from refsynth.models.predict import LinearHead
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import RunResult, run
from tests.support.serving import running
from tests.support.small import config_of
from tests.support.tiers import make_run

# What ships in place of the model, and no pool


@pytest.fixture(scope="module")
def poolless(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> RunResult:
    """A static student that has seen only texts that its teacher learned from; under a contract that asks what it keeps."""
    return make_run(tmp_path_factory.mktemp("poolless"), tiny_cache, "static")


def test_a_student_without_a_pool_is_not_measured(poolless: RunResult) -> None:
    tiers, manifest = poolless.evidence.tiers, refsynth.load(poolless.bundle).manifest
    assert tiers.student is not None
    assert (tiers.student.agreement, tiers.student.rival, tiers.student.n, tiers.kept) == (None, None, 0, None)
    assert manifest.metrics.keys() == {"accuracy"}  # of the test file, which was asked of what ships
    assert "quality of the student is unknown" in tiers.line()
    section = poolless.report.compression
    assert section is not None
    assert section.student is section.rival is None
    for text in (poolless.paths.markdown.read_text("utf-8"), poolless.paths.html.read_text("utf-8")):
        assert "The quality of the student is unknown: data.pool has no text" in text


def test_it_is_said_that_its_confidence_is_of_texts_that_its_teacher_learnt_from(poolless: RunResult) -> None:
    student, calibration = poolless.evidence.tiers.student, poolless.report.calibration
    assert student is not None
    assert not student.fresh
    assert calibration is not None  # there is a test file
    assert calibration.threshold is calibration.temperature is None
    assert "its own training texts" in calibration.how
    assert calibration.how in poolless.paths.markdown.read_text("utf-8")
    assert LEARNED in (poolless.bundle / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_a_contract_does_not_take_it_for_one_that_keeps_all(poolless: RunResult, tmp_path: Path, tiny_cache: Path) -> None:
    task = poolless.evidence.task
    config = RunConfig.parse({**task.config.model_dump(mode="json"), "contract": {"keep": 0.01}})
    folder = shutil.copytree(poolless.evidence.folder.path, tmp_path / "out")
    done = run(Task.of(config), folder, store=ModelStore(tiny_cache))
    outcome = done.evidence.shrunk.outcome
    assert outcome is not None
    smallest = min(outcome.forms, key=lambda form: form.size_mb)
    assert smallest.name == "static"  # it would have shipped
    assert smallest.kept is None
    assert outcome.shipped.name not in ("static", "full")
    assert outcome.untold == ("static",)
    assert done.report.compression is not None
    assert any("is unknown" in note and note.endswith(": static.") for note in done.report.compression.notes)


# The bits that ship


SEVEN = 78
"""The token of a digit in a number, which about a fifth of the texts have."""


def lost(*args: object, **known: object) -> LinearHead:
    """Return votes of which one decides the texts that have a token, and lies between two numbers of half precision."""
    head = fit_static(*args, **known)  # type: ignore[arg-type]
    weights = np.float32(0.1) * head.weights
    weights[SEVEN] = (60_000 - 15, 60_000 + 15)  # both are stored as 60,000
    return LinearHead(weights, np.float32(0.1) * head.bias)


def aside_of(result: RunResult) -> list[str]:
    """Return the texts that were set aside."""
    evidence = result.evidence
    texts = [UnlabeledText(**record) for record in read_jsonl(evidence.folder.steps / "pool" / "texts.jsonl")]
    return [row.text for row in reserve_half(texts, seed=derive_seed(evidence.task.config.seed, "aside"))[1]]


def differs(result: RunResult, texts: list[str], *, shallow: bool) -> Array:
    """Return whether the bundle answers texts otherwise than the model alone."""
    model, main = refsynth.load(result.bundle), refsynth.load(result.evidence.tiers.main)
    return model.manifest.answers.right(main.answer(texts).answers, model.answer(texts, shallow=shallow).answers) == 0


@pytest.mark.parametrize("fit", [fit_static, lost])
def test_the_certificate_counts_what_the_loaded_bundle_says(
    fit: Callable[..., LinearHead], tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refsynth.compress.student.fit_static", fit)
    result = make_run(tmp_path, tiny_cache, "cascade", pool=300, disagreement=0.2)
    certificate, first = result.evidence.tiers.certificate, refsynth.load(result.bundle).manifest.tiers[0].early
    assert certificate is not None, result.evidence.tiers.reason
    assert first is not None
    assert first.certificate == certificate
    texts = aside_of(result)
    answered = refsynth.load(result.bundle).answer(texts, shallow=True).exit_confidence >= first.threshold
    assert certificate.n == len(texts)
    assert certificate.answered == answered.sum()
    assert certificate.disagreed == (answered & differs(result, texts, shallow=True)).sum()
    assert result.evidence.tiers.kept is not None
    main = refsynth.load(result.evidence.tiers.main).answer(texts).answers
    again = KINDS["classify"].counts(main, refsynth.load(result.bundle).answer(texts).answers, 2).macro_f1()
    assert result.evidence.tiers.kept.value == pytest.approx(again)


@pytest.mark.parametrize("fit", [fit_static, lost])
def test_the_agreement_is_that_of_the_loaded_bundle(
    fit: Callable[..., LinearHead], tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refsynth.compress.student.fit_static", fit)
    monkeypatch.setattr("refsynth.compress.student.make_learner", lambda name, context: Ignorant())
    result = make_run(tmp_path, tiny_cache, "static", pool=100)
    model, student = refsynth.load(result.bundle), result.evidence.tiers.student
    assert student is not None
    assert model.manifest.last.kind == "static"
    same = 1 - differs(result, aside_of(result), shallow=False).mean()
    assert student.agreement == pytest.approx(same)
    assert model.manifest.metrics[AGREEMENT].value == pytest.approx(same)
    assert model.manifest.calibration == student.calibration


class Ignorant:
    """TF-IDF that has learned of one text."""

    def fit(self, real, dev, *, seed):
        from refsynth.learning.baseline import TfidfLearner

        labels = tuple(dict.fromkeys(row.label for row in real))
        few = [next(row for row in real if row.label == label) for label in labels]
        return TfidfLearner(("late", "broken"), language="en").fit(few, (), seed=seed)


def test_what_is_said_of_a_bundle_changes_and_its_model_does_not(poolless: RunResult, tmp_path: Path) -> None:
    folder = shutil.copytree(poolless.bundle, tmp_path / "bundle")
    before = {path.name: file_digest(path) for path in folder.iterdir()}
    restate(folder, refsynth.load(folder).manifest.model_copy(update={"language": "xx"}), limits=("Never on a Sunday.",))
    changed = {path.name for path in folder.iterdir() if file_digest(path) != before[path.name]}
    assert changed == {"README.md", "manifest.json"}
    assert refsynth.load(folder).manifest.language == "xx"
    assert "Never on a Sunday." in (folder / "README.md").read_text("utf-8")


# Whose figures they are

TASKS = ("classify", "multilabel", "tokens")
CONTRACTS: tuple[dict[str, float], ...] = ({}, {"p50_ms": 1e6}, {"size_mb": 0.001})
"""Nothing asked; what the largest form keeps, which a cascade is; what none keeps, so that the smallest ships."""


class Seen(NamedTuple):
    """A run, and what its bundle was before the next run in the same folder."""

    result: RunResult
    manifest: Manifest
    card: str
    answers: Array | None

    @property
    def ships(self) -> str:
        form = str(self.manifest.lineage["form"])
        return form if form in ("static", "cascade") else "alone"

    @classmethod
    def of(cls, result: RunResult) -> Seen:
        model, finished = refsynth.load(result.bundle), result.evidence
        answers, data = None, finished.task.config.data
        if data.test is not None:
            texts, *_ = _read(data.test, data, model.manifest.answers, model.labels)
            assert finished.test is not None
            new = np.delete(np.arange(len(texts)), [one.place for one in finished.test.shared if one.same])
            answers = model.answer([texts[place] for place in new]).answers
        return cls(result, model.manifest, (result.bundle / "README.md").read_text("utf-8"), answers)


def settings_of(task: str, tiers: str, folder: Path) -> dict[str, Any]:
    compress = {"tiers": tiers, "disagreement": 0.2}
    if task != "classify":
        learners = ["frozen"] if task == "multilabel" else ["finetune"]
        return dict(config_of(task, folder, compress=compress, learners=learners))
    tree = config_of("multilabel", folder, compress=compress, learners=["frozen"])
    for name in ("train", "test"):
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]
        one = [{"text": row["text"], "label": "late" if "late" in row["label"] else "broken"} for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in one), "utf-8")
    return {**tree, "task": task, "labels": {"late": "it is late", "broken": "it is broken"}}


@pytest.fixture(scope="module", params=[(task, tiers) for task in TASKS for tiers in ("one", "static", "cascade")], ids=str)
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> list[Seen]:
    """A task under each contract, with a test file and without, in one folder: steps are made once."""
    task, tiers = request.param
    folder = tmp_path_factory.mktemp(f"{task}-{tiers}")
    tree = settings_of(task, tiers, folder)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refsynth.compress.shrink.RECIPES", {name: RECIPES[name] for name in ("full", "half, narrow, few words")})
        for contract in CONTRACTS:
            for roles in (("train", "pool", "test"), ("train", "pool")):
                data = {role: tree["data"][role] for role in roles}
                config = RunConfig.parse({**tree, "data": data, **({"contract": contract} if contract else {})})
                seen.append(Seen.of(run(Task.of(config), folder / "out", store=ModelStore(tiny_cache))))
    return seen


@pytest.mark.slow
def test_every_way_to_ship_is_in_the_table(table: list[Seen]) -> None:
    wanted = table[0].result.evidence.task.config.compress.tiers
    assert {seen.ships for seen in table} == ({"alone"} if wanted == "one" else {"alone", wanted})


@pytest.mark.slow
def test_figures_of_the_shipped_bundle_are_its_own_or_none(table: list[Seen]) -> None:
    for seen in table:
        report, finished = seen.result.report, seen.result.evidence
        held, k, kind = finished.learned.held, len(seen.manifest.labels), seen.manifest.answers
        assert held is not None
        assert report.results is not None
        line = report.results.shipped
        assert line is not None
        shown = {FIGURES[field]: figure for field in FIGURES if (figure := getattr(line, field)) is not None}
        expected: tuple[Metric, ...] = ()
        if (test := finished.measured) is not None:
            expected = kind.figures(test.truth, seen.answers, k, test.groups)  # type: ignore[arg-type]
        elif seen.ships == "alone":
            logits = finished.shrunk.logits
            assert logits is not None
            expected = kind.figures(held.truth, held.answers_of(logits)[0], k, held.groups, spread=held.spread)
        assert shown == {figure.name: figure for figure in expected}
        assert (report.classes is None) == (not expected)
        assert ("%" in verdict(report)) == bool(expected)
        if not expected:
            assert report.calibration is None
            assert "only the trained model was measured" in report.absent["calibration"]


def test_a_manifest_and_a_card_have_no_figure_of_another_model(table: list[Seen]) -> None:
    for seen in table:
        held, shrunk = seen.result.evidence.learned.held, seen.result.evidence.shrunk
        assert held is not None
        name, tested = f"cross-validated {held.kind.measure}", seen.result.evidence.measured
        own = set() if tested is None else {held.kind.measure}
        if own:
            shipped = seen.result.report.results.shipped  # type: ignore[union-attr]
            assert seen.manifest.metrics[held.kind.measure].value == shipped.score.value  # type: ignore[union-attr]
        student = seen.result.evidence.tiers.student
        if seen.ships == "alone":
            assert shrunk.logits is not None
            assert seen.manifest.metrics.keys() == {name, *own}
            assert seen.manifest.metrics[name].value == pytest.approx(held.score_of(shrunk.logits).value)
            continue
        assert shrunk.logits is None
        assert "On held-out rows it" not in seen.card
        if seen.ships == "cascade":
            assert seen.manifest.metrics.keys() == {f"{name} of the second tier", *own}
        else:
            assert student is not None
            assert student.nearest is not None
            assert seen.manifest.calibration.risk is seen.manifest.calibration.coverage is None
            figures = {name: figure.value for name, figure in seen.manifest.metrics.items() if name not in own}
            assert figures == {AGREEMENT: pytest.approx(student.nearest)}


def test_a_threshold_that_no_labels_chose_is_not_shown_as_one_that_they_did(table: list[Seen]) -> None:
    for seen in table:
        calibration = seen.result.report.calibration
        if calibration is None:
            continue
        assert (calibration.threshold is None) == (seen.ships != "alone")
        if calibration.threshold is not None:
            assert calibration.threshold.threshold == pytest.approx(seen.manifest.calibration.threshold)
            assert calibration.temperature == pytest.approx(seen.manifest.calibration.temperature)
        else:
            for one in (tier.calibration for tier in seen.manifest.tiers):
                assert f"the temperature {one.temperature:.2f}" in calibration.how


def test_what_a_form_keeps_has_an_interval(table: list[Seen]) -> None:
    for seen in table:
        outcome, section = seen.result.evidence.shrunk.outcome, seen.result.report.compression
        if outcome is None:
            continue
        shipped = outcome.shipped
        assert shipped.kept is not None
        assert shipped.interval is not None
        assert shipped.interval.tried == 1  # nobody asked what is kept: it chose nothing
        assert shipped.interval.low - 1e-6 <= shipped.kept <= shipped.interval.high + 1e-6
        assert section is not None
        assert [one.range for one in section.variants if one.range] == [shipped.interval[:2]]
        assert any("by a paired bootstrap over" in note for note in section.notes)


def test_a_server_tells_no_figure_that_the_manifest_has_not(poolless: RunResult) -> None:
    with running(poolless.bundle) as server:
        (model,) = httpx.get(server.url + "/v1/models").json()["data"]
    told = refsynth.load(poolless.bundle).manifest.metrics
    assert model["metrics"] == {name: figure.value for name, figure in told.items()}
