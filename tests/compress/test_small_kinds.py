"""Smaller forms, students and cascades where a text has any number of labels, and where words have them."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import refsynth
from refsynth.bundle.certificate import exit_confidence
from refsynth.bundle.manifest import MANIFEST
from refsynth.compress.drawn import shift_of
from refsynth.compress.forms import RECIPES, Teacher, cut, shrink
from refsynth.compress.shape import keep_layers
from refsynth.compress.static import fit_static
from refsynth.compress.student import StudentMaker
from refsynth.core.config import RunConfig
from refsynth.core.errors import BundleError, InputError
from refsynth.core.hashes import file_digest
from refsynth.core.task import Task
from refsynth.core.types import Example
from refsynth.core.windows import REACH
from refsynth.data.text import clean
from refsynth.kinds import ANY_LABELS, KINDS, SPANS, as_floats, as_json, from_json
from refsynth.kinds.metrics import sigmoid, softmax
from refsynth.kinds.spans import ragged
from refsynth.learning.tuning.distill import Transfer, distill
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.store import ModelStore
from refsynth.models.tagger import TagPredictor
from refsynth.pipeline.flow import run
from refsynth.service.http.engine import LoadedBundle
from tests.support.sets import LABELS as SETS
from tests.support.sets import examples_
from tests.support.small import POOL, config_of, plain
from tests.support.tagged import example, texts
from tests.support.tiny_encoder import MAX_TOKENS

TASKS = ("multilabel", "tokens")


ASKED = {task: plain(task, 200, 9) for task in TASKS}


def finished_of(task, folder, cache, **changes):
    return run(Task.of(RunConfig.parse(config_of(task, folder, **changes))), folder / "out", store=ModelStore(cache))


@pytest.fixture(scope="module", params=TASKS)
def contracted(request, tmp_path_factory, tiny_cache):
    return finished_of(request.param, tmp_path_factory.mktemp("contract"), tiny_cache, contract={"keep": 0.01, "size_mb": 40})


@pytest.fixture(scope="module", params=TASKS)
def cascade(request, tmp_path_factory, tiny_cache):
    tiers = {"tiers": "cascade", "disagreement": 0.2}
    learners = ["frozen"] if request.param == "multilabel" else ["finetune"]
    return finished_of(request.param, tmp_path_factory.mktemp("cascade"), tiny_cache, compress=tiers, learners=learners)


@pytest.fixture(scope="module", params=TASKS)
def static(request, tmp_path_factory, tiny_cache):
    learners = ["frozen"] if request.param == "multilabel" else ["finetune"]
    folder = tmp_path_factory.mktemp("static")
    return finished_of(request.param, folder, tiny_cache, compress={"tiers": "static"}, learners=learners)


def test_the_smallest_form_that_keeps_it_ships(contracted):
    outcome, kind = contracted.evidence.shrunk.outcome, contracted.evidence.learned.held.kind
    assert outcome.met
    assert outcome.shipped.kept is not None
    fit = [form for form in outcome.forms if form.size_mb <= 40]
    assert outcome.shipped.size_mb == min(form.size_mb for form in fit if form.kept is None or form.kept >= 0.01)
    simple = {"crf"} if kind.words else {"tfidf"}
    assert {form.name for form in outcome.forms} - simple <= set(RECIPES)
    model = refsynth.load(contracted.bundle)
    assert model.manifest.lineage["form"] == outcome.shipped.name
    assert len(model.predict(["ann sat in rome", "w"])) == 2
    assert contracted.report.compression.met


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_form_is_measured_on_rows_that_it_has_not_seen(task, tmp_path, tiny_cache):
    learners = ["frozen"] if task == "multilabel" else ["finetune"]
    done = finished_of(task, tmp_path, tiny_cache, contract={"keep": 0.001}, learners=learners)
    shrunk, held = done.evidence.shrunk, done.evidence.learned.held
    assert shrunk.name not in ("full", "crf", "tfidf")
    assert len(shrunk.logits) == 1
    assert len(shrunk.logits[0]) == len(held.truth) == 40
    k = len(done.evidence.task.labels)
    (answers,) = held.answers_of(shrunk.logits)
    full = held.answers_of(held.logits[done.evidence.learned.decision.shipped])
    whole = np.mean([held.kind.counts(held.truth, one, k).macro_f1() for one in full])
    assert shrunk.outcome.shipped.kept == pytest.approx(held.kind.counts(held.truth, answers, k).macro_f1() / whole)
    figures = refsynth.load(done.bundle).manifest.metrics
    assert figures[f"cross-validated {held.kind.measure}"].value == pytest.approx(held.score_of(shrunk.logits).value)


def test_a_static_bundle_says_what_its_teacher_says(static):
    model, main = refsynth.load(static.bundle), refsynth.load(static.evidence.tiers.main)
    kind, student = model.manifest.answers, static.evidence.tiers.student
    assert model.manifest.last.kind == ("crf" if kind.words else "tfidf" if student.loses else "static")
    assert student.agreement > 0.5
    aside = plain("tokens" if kind.words else "multilabel", 100, 9)
    same = [one.label == other.label for one, other in zip(model.predict(aside), main.predict(aside), strict=True)]
    assert np.mean(same) > 0.5
    assert not list(static.bundle.glob("*.onnx"))


@pytest.fixture(scope="module")
def mixed(cascade, tmp_path_factory):
    """The cascade with a threshold at which each tier answers a good part of `ASKED`, and the model alone."""
    folder = shutil.copytree(cascade.bundle, tmp_path_factory.mktemp("mixed") / "bundle")
    task = cascade.evidence.task.config.task
    sure = refsynth.load(folder).answer(ASKED[task], shallow=True).certainty
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["tiers"][0]["early"]["threshold"] = float(np.median(sure))
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return refsynth.load(folder), refsynth.load(cascade.evidence.tiers.main), ASKED[task]


def test_each_tier_answers_what_is_its(mixed):
    model, main, asked = mixed
    kind, calibration = model.manifest.answers, model.manifest.tiers[0].calibration
    answers, alone = model.predict(asked), main.predict(asked)
    late = np.array([one.tier == "int8" for one in answers])
    assert late.tolist() == (model.answer(asked).exit_confidence < model.manifest.tiers[0].early.threshold).tolist()
    assert late.any()
    assert not late.all()
    assert model.opened == ("exact" if kind.words else "static", "int8")
    for one, other, out in zip(answers, alone, late, strict=True):
        if out:
            assert (one.label, one.abstain) == (other.label, other.abstain)
            assert one.probability == pytest.approx(other.probability)
        else:
            assert one.abstain == (one.probability < calibration.threshold)
    first = kind.probabilities(
        as_floats(model._first.predictor.logits([clean(text) for text in asked])) / calibration.temperature
    )
    shown = [kind.shown(one, model.labels) for one in model.decide(first)]
    assert [one.label for one, out in zip(answers, late, strict=True) if not out] == [
        label for label, out in zip(shown, late, strict=True) if not out
    ]
    shallow = model.predict(asked, shallow=True)
    assert [one.degraded for one in shallow] == late.tolist()
    assert [one.label for one in shallow] == shown
    found = model.answer(asked)
    assert found.unsure.tolist() == [one.abstain for one in answers]
    assert found.certainty == pytest.approx([one.probability for one in answers])


def test_golden_texts_of_either_tier_are_answered_rightly(mixed, cascade):
    for model in (mixed[0], refsynth.load(cascade.bundle)):
        loaded = LoadedBundle(model, "v")
        model.check()
        texts = loaded.golden.texts
        assert all(loaded.agrees(i, one) for i, one in enumerate(model.predict(texts)))
        assert all(loaded.agrees(i, one) for i, one in enumerate(model.predict(texts, shallow=True)))


def test_a_cascade_keeps_its_certificate(cascade):
    certificate = cascade.evidence.tiers.certificate
    assert certificate is not None, cascade.evidence.tiers.reason
    model, main = refsynth.load(cascade.bundle), refsynth.load(cascade.evidence.tiers.main)
    task = model.manifest.task
    kinds = [tier.kind for tier in model.manifest.tiers]
    assert kinds == (["crf", "tagger"] if task == "tokens" else ["static", "encoder"])
    answers, alone = model.predict(ASKED[task]), main.predict(ASKED[task])
    otherwise = np.mean([one.label != other.label for one, other in zip(answers, alone, strict=True)])
    assert otherwise <= certificate.alpha + 0.05
    assert "the probability of its whole answer" in (cascade.bundle / "README.md").read_text("utf-8")
    assert 0.5 < cascade.evidence.tiers.kept.value <= 1
    name = cascade.report.results.systems[-1].name
    assert name == "shipped bundle (cascade)"


@pytest.mark.slow
def test_what_a_report_says_of_silence_is_what_the_bundle_does(cascade, static):
    for done in (cascade, static):
        test = done.evidence.task.test
        rows = [json.loads(line)["text"] for line in test.read_text("utf-8").splitlines()]
        spans = done.evidence.task.config.task == "tokens"
        new = [rows[number - 1] for number in done.evidence.measured.numbers]  # what is in train too is no part of the report
        asked = [example(0, text).text for text in new] if spans else new
        answered = np.mean([not one.abstain for one in refsynth.load(done.bundle).predict(asked)])
        assert done.report.calibration is None or done.report.calibration.answered.value == pytest.approx(answered)


def test_logits_of_a_cascade_have_its_probabilities(cascade):
    model = refsynth.load(cascade.bundle)
    kind, asked = model.manifest.answers, ["ann sat in rome", "broken and late parcel"]
    again = kind.probabilities(model.logits(asked) / model.manifest.calibration.temperature)
    for one, other in zip(again, model.probabilities(asked), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_certificate_is_what_the_texts_set_aside_show(cascade):
    finished = cascade.evidence
    model, main = refsynth.load(cascade.bundle), refsynth.load(finished.tiers.main)
    first, certificate = model.manifest.tiers[0].early, finished.tiers.certificate
    assert POOL // 2 - 5 <= certificate.n <= POOL // 2  # without those that are rows
    job_pool = [json.loads(line)["text"] for line in finished.task.config.data.pool.read_text("utf-8").splitlines()]
    said = model._first.probabilities(job_pool)
    sure = exit_confidence("answer", said, model.answer(job_pool, shallow=True).certainty)
    share = np.mean(sure >= first.threshold)
    assert share == pytest.approx(certificate.share, abs=0.12)
    right = model.manifest.answers.right(main.decide(main.probabilities(job_pool)), model.decide(said))
    assert np.mean((right == 0) & (sure >= first.threshold)) <= certificate.alpha


def test_a_forged_cascade_is_refused(cascade, tmp_path):
    def forged(name, data):
        shutil.copytree(cascade.bundle, tmp_path / "bundle", dirs_exist_ok=True)
        (tmp_path / "bundle" / name).write_bytes(data)
        manifest = json.loads((cascade.bundle / MANIFEST).read_bytes())
        manifest["files"][name] = {"sha256": file_digest(tmp_path / "bundle" / name), "size": len(data)}
        (tmp_path / "bundle" / MANIFEST).write_text(json.dumps(manifest), "utf-8")
        return tmp_path / "bundle"

    kind = refsynth.load(cascade.bundle).manifest.tiers[0].kind
    refsynth.load(forged("README.md", b"other"))
    with pytest.raises(BundleError):
        refsynth.load(forged(f"{kind}-head.safetensors", (cascade.bundle / "head.safetensors").read_bytes()))
    if refsynth.load(cascade.bundle).manifest.answers.words:
        for terms in (b'{"terms": ["bias"]}', b'{"terms": 5}', b"["):
            with pytest.raises(BundleError):
                refsynth.load(forged("crf-features.json", terms))


@pytest.mark.parametrize("confidence", ["odds", "probability"])
def test_a_first_tier_that_is_sure_of_one_label_is_refused(cascade, tmp_path, confidence):
    folder = shutil.copytree(cascade.bundle, tmp_path / "bundle")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["tiers"][0]["early"]["confidence"] = confidence
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BundleError, match="tier does not fit task"):
        refsynth.load(folder)


@pytest.mark.slow
def test_a_form_learns_from_the_pool_and_is_made_again_with_another(tmp_path, tiny_cache, monkeypatch):
    taught = []
    monkeypatch.setattr(
        "refsynth.compress.shrink.shrink", lambda *args, **known: taught.append(args[2]) or shrink(*args, **known)
    )
    wanted = {"contract": {"keep": 0.001}, "learners": ["frozen"], "labels": dict(SETS)}
    config = config_of("multilabel", tmp_path, **wanted)
    for words in ("seen", "other"):
        pool = "".join(json.dumps({"text": f"{words} text {i}"}) + "\n" for i in range(20))
        (tmp_path / "pool.jsonl").write_text(pool, "utf-8")
        taught.clear()
        run(Task.of(RunConfig.parse(config)), tmp_path / "out", store=ModelStore(tiny_cache))
        assert len(taught) == 3  # two folds and what ships
        assert all(f"{words} text 0" in texts for texts in taught)


@pytest.mark.slow
def test_texts_of_the_pool_that_are_test_rows_teach_no_student(tmp_path, tiny_cache, monkeypatch):
    taught = []
    teach = lambda *args, **known: taught.append({*args[2]}) or shrink(*args, **known)  # noqa: E731
    monkeypatch.setattr("refsynth.compress.shrink.shrink", teach)
    config = config_of("multilabel", tmp_path, contract={"keep": 0.001}, learners=["frozen"])
    planted = {*plain("multilabel", 24, 1)} - {*plain("multilabel", 40, 0)}
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in planted), "utf-8")
    done = run(Task.of(RunConfig.parse(config)), tmp_path / "out", store=ModelStore(tiny_cache))
    assert planted & taught[0]  # nobody has looked at the test file yet
    assert not planted & taught[-1]
    assert not done.evidence.test.leaked


def test_a_student_is_not_taught_what_its_teacher_does_not_read(cascade):
    finished = cascade.evidence
    model = refsynth.load(finished.tiers.main)
    if not model.manifest.answers.words:
        return
    job = SimpleNamespace(folder=finished.folder, task=finished.task)
    learned = finished.learned
    maker = StudentMaker(job, learned.final, learned.decision.shipped, finished.tiers.main, model)
    head = "ann sat in rome"
    long = head + " . " * (model.manifest.last.max_tokens * REACH) + head
    assert maker._as_read([head, "", long])[:2] == [head, ""]
    (cut_,) = maker._as_read([long])
    assert long.startswith(cut_)
    assert len(head) < len(cut_) < len(long) - len(head)


# Distillation


@pytest.fixture(scope="module")
def encoder(tiny_folder):
    return TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS)


def apart(task, one, other, asked):
    kind = KINDS[task]
    pairs = zip(kind.probabilities(one.logits(asked)), kind.probabilities(other.logits(asked)), strict=True)
    return np.mean([np.abs(a - b).mean() for a, b in pairs])


def teacher_of(task, encoder):
    rng = np.random.default_rng(0)
    if task == "multilabel":
        predictor = EncoderPredictor(tuple(SETS), encoder, LinearHead(rng.normal(size=(encoder.dimension, 3)) * 4, np.zeros(3)))
        return Teacher(predictor, encoder, examples_(30), "sigmoid")
    head = LinearHead(rng.normal(size=(encoder.dimension, 5)), np.zeros(5))
    rows = [example(i, text) for i, text in enumerate(texts(30))]
    return Teacher(TagPredictor(("person", "place"), encoder, head), encoder, rows)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("deep", [1.0, 0.0])
def test_a_student_comes_nearer_to_its_teacher(task, deep, encoder):
    teacher, asked = teacher_of(task, encoder), plain(task, 30, 0)
    untrained, kept = cut(teacher, "half", asked)
    torch.manual_seed(0)
    student = distill(
        [teacher.predictor],
        keep_layers(encoder, kept),
        [*asked, ""],
        matched=kept,
        seed=0,
        transfer=Transfer(steps=60, hidden=deep, attention=deep),
        link=teacher.link,
    )
    assert type(student) is type(teacher.predictor)
    assert apart(task, student, teacher.predictor, asked) < 0.6 * apart(task, untrained, teacher.predictor, asked)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["half the heads", "half, narrow, few words"])
def test_what_is_cut_is_chosen_by_the_loss_of_the_task(task, name, encoder):
    teacher, asked = teacher_of(task, encoder), plain(task, 30, 0)
    form = shrink(teacher, name, asked, seed=0)
    assert type(form) is type(teacher.predictor)
    assert len(form.logits(asked)) == 30


def test_texts_without_words_are_left_out(encoder):
    teacher = teacher_of("tokens", encoder)
    rows = [*teacher.rows[:32], Example("empty", "", "(none)")]
    form = shrink(teacher._replace(rows=rows), "half, narrow", plain("tokens", 30, 0), seed=0)
    assert len(form.logits(["", "a"])) == 2
    with pytest.raises(InputError, match="without words"):
        distill([teacher.predictor], encoder, ["", " "], matched=range(2), seed=0, transfer=Transfer())
    assert encoder.word_states(encoder.words(["", ""])).shape == (0, encoder.dimension)


def test_kinds_of_nothing():
    nothing = from_json(as_json(SPANS.probabilities(ragged([np.zeros((0, 5)), np.zeros((0, 5))]))))
    assert nothing.dtype == object
    assert len(SPANS.choices(nothing, SPANS.decide(nothing)).truth) == 0


def test_votes_for_labels_of_their_own_are_learnt():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 30, 6).tolist() for _ in range(300)]
    marks = np.array([[sum(row) > 90, row.count(3) > 0] for row in rows], float)
    head = fit_static(rng.normal(size=(30, 8)).astype(np.float32), rows, marks, texts=len(rows), seed=1, several=True)
    said = sigmoid(np.array([head.weights[row].mean(0) + head.bias for row in rows])) > 0.5
    assert (said == marks).mean() > 0.95


# Thresholds of two tiers


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20), st.floats(0.1, 30))
def test_moved_logits_reach_a_threshold_where_they_reached_their_cut(seed, temperature, spread):
    rng = np.random.default_rng(seed)
    cuts, bars, logits = rng.normal(size=3), sigmoid(rng.uniform(-spread, spread, 3)), rng.normal(size=(50, 3)) * 3
    moved = logits + shift_of(cuts, bars, temperature=temperature)
    clear = np.abs(logits - cuts) > 1e-6  # rounding may turn what lies on its cut
    answers = ANY_LABELS.decide(sigmoid(moved / temperature), bars), ANY_LABELS.decide(logits, cuts)
    np.testing.assert_array_equal(answers[0][clear], answers[1][clear])


def test_both_tiers_have_the_thresholds_of_the_second(cascade):
    model, main = refsynth.load(cascade.bundle), refsynth.load(cascade.evidence.tiers.main)
    assert model.manifest.calibration.thresholds == main.manifest.calibration.thresholds
    assert model.manifest.tiers[0].calibration.thresholds == main.manifest.calibration.thresholds
    assert bool(model.manifest.calibration.thresholds) == model.manifest.answers.several


@pytest.mark.parametrize("kind", [ANY_LABELS, SPANS])
def test_logits_have_the_probabilities_that_they_were_made_of(kind):
    rng = np.random.default_rng(0)
    if kind is ANY_LABELS:
        probabilities = rng.random((5, 3))
        np.testing.assert_allclose(kind.probabilities(kind.logits(probabilities)), probabilities)
        assert np.isfinite(kind.logits(np.array([[0.0, 1.0, 0.5]]))).all()
        return
    rows = np.empty(2, object)
    rows[0], rows[1] = softmax(rng.normal(size=(4, 5))), np.zeros((0, 5))
    for one, other in zip(kind.probabilities(kind.logits(rows)), rows, strict=True):
        np.testing.assert_allclose(one, other)
