"""The static student: additive to the last digit, taught by a teacher, shipped alone or in front of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

from refsynth import bundle
from refsynth.bundle.certificate import Certificate, exit_confidence, profile_of
from refsynth.bundle.manifest import MANIFEST
from refsynth.bundle.none import ANOTHER_FORM
from refsynth.cli.app import app
from refsynth.cli.predict import warn_shift
from refsynth.compress.cascade import LEAST_SHARE, THRESHOLDS, certify, least_texts
from refsynth.compress.static import BATCH, ENOUGH, MIXTURES, _batches, fit_static, token_table, with_mixtures
from refsynth.core.config import RunConfig
from refsynth.core.errors import BundleError, ConfigError, InputError, ModelError
from refsynth.core.hashes import file_digest
from refsynth.core.protocols import Predictor
from refsynth.core.task import Task
from refsynth.core.types import FloatArray
from refsynth.kinds.metrics import lead_of
from refsynth.learning.pool import reserve_half
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import LinearHead
from refsynth.models.static import StaticPredictor
from refsynth.models.store import ModelStore
from refsynth.models.tokenizer import TextTokenizer
from refsynth.pipeline.flow import RunResult, run
from refsynth.service.http.engine import FAILURES, Engine, LoadedBundle, Question
from tests.support.tiers import make_run, write_rows
from tests.support.tiny_encoder import MAX_TOKENS, make_tokenizer

ALPHA, DELTA = 0.05, 0.1


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    path = make_tokenizer(tmp_path_factory.mktemp("tokenizer") / "t.json")
    return TextTokenizer(path, max_tokens=MAX_TOKENS, special=False)


@pytest.fixture(scope="module")
def predictor(tokenizer: TextTokenizer) -> StaticPredictor:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(tokenizer.size, 3)).astype(np.float32)
    return StaticPredictor(("a", "b", "c"), tokenizer, LinearHead(weights, rng.normal(size=3).astype(np.float32)))


@given(st.lists(st.text(max_size=60), max_size=5))
def test_parts_sum_to_the_logits_of_any_text(predictor: StaticPredictor, texts: list[str]) -> None:
    logits = predictor.logits(texts)
    assert logits.shape == (len(texts), 3)
    for text, row in zip(texts, logits, strict=True):
        words, parts = predictor.parts(text)
        assert len(words) == len(parts)
        if words:
            np.testing.assert_allclose(parts.sum(0) + predictor.head.bias, row, atol=1e-5)


def test_a_text_is_answered_the_same_alone_and_among_many(predictor: StaticPredictor) -> None:
    texts = [f"number {i} is a letter" for i in range(600)]  # more than a chunk
    np.testing.assert_allclose(predictor.logits(texts)[[0, 300, 599]], predictor.logits([texts[i] for i in (0, 300, 599)]))


def test_votes_must_fit_the_tokenizer(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ModelError, match="votes of shape"):
        StaticPredictor(("a", "b"), tokenizer, LinearHead(np.zeros((3, 2)), np.zeros(2)))


def test_a_table_has_a_row_for_every_token_and_none_for_special_ones(tiny_folder: Path) -> None:
    encoder = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS)
    before = {name: value.clone() for name, value in encoder.transformer.state_dict().items()}
    table = token_table(encoder)
    places = encoder.tokenizer.get_vocab()
    assert len(table) == len(places)
    assert not table[places["[CLS]"]].any()
    assert table[places["a"]].any()
    assert all((value == before[name]).all() for name, value in encoder.transformer.state_dict().items())


def test_a_student_learns_what_it_is_taught_and_the_same_twice() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 40, 6).tolist() for _ in range(300)]
    truth = np.array([int(sum(row) > 120) for row in rows])
    table = rng.normal(size=(50, 8)).astype(np.float32)
    head = fit_static(table, rows, np.eye(2)[truth], texts=len(rows), seed=1)
    said = np.array([head.weights[row].mean(0) + head.bias for row in rows]).argmax(1)
    assert (said == truth).mean() > 0.95
    np.testing.assert_array_equal(head.weights, fit_static(table, rows, np.eye(2)[truth], texts=len(rows), seed=1).weights)


def test_no_threshold_is_certified_on_too_few_texts() -> None:
    need = least_texts(ALPHA, DELTA)
    assert stats.binom.cdf(0, need, ALPHA) <= DELTA < stats.binom.cdf(0, need - 1, ALPHA)
    agrees = np.zeros(need, bool)
    assert certify(np.ones(need), agrees, alpha=ALPHA, delta=DELTA) is not None
    assert certify(np.ones(need - 1), agrees[1:], alpha=ALPHA, delta=DELTA) is None
    assert certify(np.empty(0), agrees[:0], alpha=ALPHA, delta=DELTA) is None


def test_a_tier_that_would_answer_hardly_anything_is_not_certified() -> None:
    confidence = np.where(np.arange(1000) < 1000 * LEAST_SHARE - 1, 0.99995, 0.0)
    assert certify(confidence, confidence < 0.5, alpha=ALPHA, delta=DELTA) is None


def test_the_last_threshold_that_passes_is_taken_and_the_next_would_fail() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(size=800)
    disagrees = rng.uniform(size=800) < (1 - confidence) ** 2
    found = certify(confidence, disagrees, alpha=ALPHA, delta=DELTA)
    assert found is not None
    place = int(np.flatnonzero(found.threshold == THRESHOLDS)[0])
    counts = [int((disagrees & (confidence >= bar)).sum()) for bar in THRESHOLDS[: place + 2]]
    p_values = [stats.binomtest(count, 800, ALPHA, alternative="less").pvalue for count in counts]
    assert max(p_values[:-1]) <= DELTA < p_values[-1]
    assert found.disagreed == counts[-2]


def test_certificates_are_broken_no_more_often_than_they_say() -> None:
    """Confidence is uniform, and a text of confidence c is answered otherwise with (1 - c)^2: the risk at t is (1 - t)^3 / 3."""
    rng = np.random.default_rng(0)
    trials, broken, found = 400, 0, 0
    for _ in range(trials):
        confidence = rng.uniform(size=300)
        disagrees = rng.uniform(size=300) < (1 - confidence) ** 2
        certified = certify(confidence, disagrees, alpha=ALPHA, delta=DELTA)
        found += certified is not None
        broken += certified is not None and (1 - certified.threshold) ** 3 / 3 > ALPHA
    assert found > trials / 2  # or nothing was tested
    assert broken <= stats.binom.ppf(0.999, trials, DELTA)
    assert broken >= 1  # a test that never errs wastes what it was allowed


def test_a_shift_in_how_sure_the_tier_is_or_in_length_voids_the_certificate() -> None:
    rng = np.random.default_rng(0)

    def sure(n: int, spread: float = 1.0) -> FloatArray:
        return np.asarray(1 / (1 + np.exp(-rng.normal(2, spread, n))))

    def texts(n: int, longest: int = 200) -> list[str]:
        return ["x" * length for length in rng.integers(1, longest, n)]

    def shifted(sure: FloatArray, texts: list[str]) -> bool:
        return certificate.shifted(profile_of(sure, texts), len(texts))

    profile = tuple(profile_of(sure(500), texts(500)).tolist())
    certificate = Certificate(alpha=0.02, delta=0.1, n=500, answered=250, disagreed=2, profile=profile, assumptions=())
    assert sum(shifted(sure(400), texts(400)) for _ in range(300)) <= 3
    assert shifted(sure(400, spread=3.0), texts(400))  # as many as ever are surer than the median
    assert shifted(sure(400), texts(400, longest=100))  # as sure as ever of shorter texts
    assert not shifted(sure(0), [])
    assert not shifted(sure(2, spread=9.0), texts(2))  # two texts tell nothing
    with pytest.raises(ValueError, match="3 counts"):
        Certificate(alpha=0.02, delta=0.1, n=5, answered=2, disagreed=0, profile=(1, 2, 3), assumptions=())


def test_a_part_of_the_pool_is_set_aside_by_chance() -> None:
    texts = [(f"pool-{i}", str(i)) for i in range(101)]
    learned, aside = reserve_half(texts, seed=0)  # type: ignore[arg-type]
    assert len(aside) == 50
    assert sorted([*learned, *aside]) == sorted(texts)
    assert reserve_half(texts, seed=1)[1] != aside  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> RunResult:
    return make_run(tmp_path_factory.mktemp("cascade"), tiny_cache, "cascade", pool=300, disagreement=0.01)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> RunResult:
    return make_run(tmp_path_factory.mktemp("static"), tiny_cache, "static", pool=100)


def test_a_static_bundle_predicts_and_explains_exactly(static: RunResult) -> None:
    model = bundle.load(static.bundle)
    student = static.evidence.tiers.student
    assert student is not None
    assert student.agreement > 0.7
    texts = ["my parcel is late", "", "it is  broken"]
    assert [tier.kind for tier in model.manifest.tiers] == ["static"]
    assert {answer.tier for answer in model.predict(["my parcel is late", "it is  broken"])} == {"static"}
    probabilities = np.log(model.probabilities(texts))
    why = model.contributions(texts[0], "late")
    assert why is not None
    total = why.base + sum(value for _, value in why.terms)
    assert total == pytest.approx(probabilities[0, 0] - probabilities[0].mean(), abs=1e-4)


def test_a_static_bundle_predicts_without_torch_and_onnx_runtime(static: RunResult) -> None:
    assert not list(static.bundle.glob("*.onnx"))
    heavy = "sorted({'torch', 'onnxruntime', 'yaml'} & {*sys.modules})"
    code = f"import sys, refsynth; refsynth.load(sys.argv[1]).predict(['a']); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code, str(static.bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert sum(path.stat().st_size for path in static.bundle.iterdir()) < 200_000


def test_a_cascade_opens_its_second_tier_for_the_first_text_that_needs_it(cascade: RunResult) -> None:
    certificate = cascade.evidence.tiers.certificate
    assert certificate is not None, cascade.evidence.tiers.reason
    assert certificate.n == 300
    model = bundle.load(cascade.bundle)
    assert model.opened == ("static",)
    file = cascade.evidence.task.config.data.pool
    assert file is not None
    pool = [json.loads(line)["text"] for line in file.read_text("utf-8").splitlines()]
    answers = model.predict(pool)
    assert model.opened == ("static", "int8")
    share = sum(answer.tier == "static" for answer in answers) / len(answers)
    assert share == pytest.approx(certificate.share, abs=0.1)
    alone = bundle.load(cascade.evidence.tiers.main).predict(pool)
    otherwise = sum(one.label != other.label for one, other in zip(answers, alone, strict=True))
    assert otherwise / len(pool) <= 0.03
    assert model.additive(pool[0]) == (answers[0].tier == "static")
    assert (model.contributions(pool[0], "late") is None) != model.additive(pool[0])


def test_a_cascade_refuses_a_bundle_that_took_its_place(cascade: RunResult, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in cascade.bundle.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    model = bundle.load(folder)
    (folder / "README.md").write_text("other")
    with pytest.raises(BundleError, match=r"README\.md"):
        model.check()


def test_a_forged_cascade_is_refused(cascade: RunResult, tmp_path: Path) -> None:
    for path in cascade.bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tree = json.loads((tmp_path / MANIFEST).read_bytes())
    name = "static-head.safetensors"
    (tmp_path / MANIFEST).write_text(json.dumps({**tree, "tiers": [{**tree["tiers"][0], "early": None}, tree["tiers"][1]]}))
    with pytest.raises(BundleError, match="each tier except the last"):
        bundle.load(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / "head.safetensors").read_bytes())
    entry = {"sha256": file_digest(tmp_path / name), "size": (tmp_path / name).stat().st_size}
    (tmp_path / MANIFEST).write_text(json.dumps({**tree, "files": {**tree["files"], name: entry}}))
    with pytest.raises(BundleError, match="votes of shape"):
        bundle.load(tmp_path)


def test_without_enough_texts_the_model_ships_alone_and_the_run_says_why(tmp_path: Path, tiny_cache: Path) -> None:
    result = make_run(tmp_path, tiny_cache, "cascade", pool=5)
    assert bundle.load(result.bundle).manifest.last.kind == "encoder"
    assert "give a pool of 44 texts or more" in result.evidence.tiers.reason


def test_tf_idf_needs_no_student(tmp_path: Path, tiny_cache: Path) -> None:
    result = make_run(tmp_path, tiny_cache, "static", learners=["tfidf"])
    assert bundle.load(result.bundle).manifest.last.kind == "tfidf"
    assert "TF-IDF" in result.evidence.tiers.reason


def test_running_again_makes_no_step_again(cascade: RunResult, tiny_cache: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in cascade.evidence.folder.steps.iterdir()}
    again = run(cascade.evidence.task, cascade.evidence.folder.path, store=ModelStore(tiny_cache))
    assert {path.name: path.stat().st_mtime_ns for path in cascade.evidence.folder.steps.iterdir()} == before
    assert again.evidence.tiers.certificate == cascade.evidence.tiers.certificate


def test_a_bad_value_is_told() -> None:
    with pytest.raises(ConfigError, match=r"compress\.tiers"):
        RunConfig.parse({"labels": ["a", "b"], "compress": {"tiers": "two"}})


def test_the_card_and_the_report_carry_the_certificate(cascade: RunResult) -> None:
    certificate = cascade.evidence.tiers.certificate
    assert certificate is not None
    card = (cascade.bundle / "README.md").read_text("utf-8")
    assert f"None of these: nothing is marked, since {ANOTHER_FORM}" in card
    for text in (card, cascade.paths.markdown.read_text("utf-8"), cascade.paths.html.read_text("utf-8")):
        assert "at most 1.0% of texts are answered otherwise" in text
        assert certificate.assumptions[0] in text
    section = cascade.report.compression
    assert section is not None
    assert section.cascade is not None
    assert section.cascade.answered.value == certificate.share
    assert [variant.shipped for variant in section.variants] == [False, True]


def test_what_was_never_measured_is_not_claimed(static: RunResult, tmp_path: Path, tiny_cache: Path) -> None:
    data = {"train": static.evidence.task.train}
    config = static.evidence.task.config
    task = Task.of(RunConfig.parse(config.model_dump(mode="json") | {"data": {k: str(v) for k, v in data.items()}}))
    report = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).report
    assert report.results is not None
    assert report.results.shipped is not None
    assert report.results.shipped.accuracy is None
    assert report.classes is None
    assert report.calibration is None
    assert "only the trained model was measured" in report.absent["classes"]


def test_explanations_on_the_command_line_sum_up(static: RunResult) -> None:
    found = CliRunner().invoke(
        app, ["explain", str(static.bundle), "my parcel is late", "--label", "broken", "--top", "2", "--json"]
    )
    assert found.exit_code == 0, found.output
    why = json.loads(found.stdout)
    log_p = np.log(bundle.load(static.bundle).probabilities(["my parcel is late"])[0])
    assert why["tier"] == "static"
    assert len(why["parts"]) == 2
    total = why["base"] + why["rest"] + sum(part["value"] for part in why["parts"])
    assert total == pytest.approx(log_p[1] - log_p.mean(), abs=1e-4)
    wrong = CliRunner().invoke(app, ["explain", str(static.bundle), "text", "--label", "brokn"])
    assert isinstance(wrong.exception, InputError)


def test_the_report_says_whether_the_certificate_covers_the_test_rows(
    cascade: RunResult, tmp_path: Path, tiny_cache: Path
) -> None:
    shutil.copytree(cascade.evidence.folder.path, tmp_path / "out")
    assert "The test rows do not differ from those texts" in (tmp_path / "out" / "report.md").read_text("utf-8")
    rows = [json.loads(line) for line in (cascade.evidence.folder.path.parent / "test.jsonl").read_text("utf-8").splitlines()]
    long = [row | {"text": " and then ".join([row["text"]] * 9)} for row in rows]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long), "utf-8")
    config = cascade.evidence.task.config
    data = config.data.model_copy(update={"test": tmp_path / "long.jsonl"})
    run(Task.of(config.model_copy(update={"data": data})), tmp_path / "out", store=ModelStore(tiny_cache))
    for name in ("report.md", "report.html"):
        assert "certificate is void for the test rows" in (tmp_path / "out" / name).read_text("utf-8")
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["compression"]["cascade"]["void"] is True


def test_predict_says_the_tier_and_warns_of_a_shift(
    cascade: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bundle.load(cascade.bundle)
    first = model.manifest.tiers[0].early
    assert first is not None
    warn_shift(model, np.array(first.certificate.profile), first.certificate.n)
    assert capsys.readouterr().err == ""
    warn_shift(model, first.certificate.n - np.array(first.certificate.profile), first.certificate.n)
    assert "does not hold" in " ".join(capsys.readouterr().err.split())
    file = tmp_path / "texts.jsonl"
    write_rows(file, 2, 9)
    rows = [json.loads(line) for line in CliRunner().invoke(app, ["predict", str(cascade.bundle), str(file)]).stdout.splitlines()]
    assert {row["tier"] for row in rows} <= {"static", "int8"}


def test_the_server_answers_golden_texts_of_both_tiers_rightly(cascade: RunResult) -> None:
    loaded = LoadedBundle.open(cascade.bundle, threads=1)
    texts = loaded.golden.texts
    answers = Engine(loaded).run([Question(text) for text in texts])
    right = [loaded.agrees(place, answer.prediction) for place, answer in enumerate(answers)]
    assert right.count(False) <= len(texts) // 10
    assert {answer.tier for answer in answers} <= {"static", "int8"}


class Counted:
    """A second tier that fails while it is told to, and counts."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self.labels = predictor, predictor.labels
        self.asked, self.broken, self.poison = 0, False, ""

    def logits(self, texts: Sequence[str]) -> FloatArray:
        self.asked += 1
        if self.broken or self.poison in texts:
            raise RuntimeError("no answer")
        return self._predictor.logits(texts)


@pytest.fixture
def behind(cascade: RunResult, monkeypatch: pytest.MonkeyPatch) -> tuple[LoadedBundle, Counted, list[str]]:
    """A loaded cascade, its second tier, and texts that need it."""
    loaded = LoadedBundle.open(cascade.bundle, threads=1)
    second = loaded.model._opened(1)
    counted = Counted(second.predictor)
    monkeypatch.setitem(loaded.model._tiers, 1, replace(second, predictor=counted))
    texts = [f"{text} {extra}".strip() for text in loaded.golden.texts for extra in ("", "and", "or what")]
    return loaded, counted, [one for one in texts if loaded.model.predict([one])[0].tier == "int8"]


def test_a_second_tier_that_fails_is_left_alone_and_tried_again(behind, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, second, texts = behind
    monkeypatch.setattr("refsynth.service.http.engine.REST", 0.2)
    engine = Engine(loaded)
    second.broken = True
    for _ in range(FAILURES):
        (answer,) = engine.run([Question(texts[0])])
        assert (answer.tier, answer.prediction.degraded) == ("static", True)
    assert engine.degraded
    before = second.asked
    assert all(answer.prediction.degraded for answer in engine.run([Question(text) for text in texts]))
    assert second.asked == before
    second.broken = False
    time.sleep(0.25)
    (answer,) = engine.run([Question(texts[0])])
    assert (answer.tier, answer.prediction.degraded, engine.degraded) == ("int8", False, False)


def test_a_text_that_the_second_tier_fails_on_hurts_no_other(behind) -> None:
    loaded, second, texts = behind
    second.poison, good, *_ = texts
    engine = Engine(loaded)
    with pytest.raises(RuntimeError):
        engine.run([Question(second.poison), Question(good)])
    said = [engine.run([Question(text)])[0].prediction.degraded for text in (second.poison, good) * (FAILURES + 1)]
    assert said == [True, False] * (FAILURES + 1)


def test_while_much_waits_only_the_first_tier_answers(behind) -> None:
    loaded, second, texts = behind
    before = second.asked
    answers = Engine(loaded, pressed=lambda: True).run([Question(text) for text in texts])
    assert all(answer.prediction.degraded for answer in answers)
    assert second.asked == before


class Reader:
    """A tier that notes the texts that it reads."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self.labels = predictor, predictor.labels
        self.read: list[str] = []

    def logits(self, texts: Sequence[str]) -> FloatArray:
        self.read += texts
        return self._predictor.logits(texts)


@pytest.mark.parametrize("asked", ["engine", "predict", "probabilities", "logits"])
def test_each_tier_reads_a_text_once(asked: str, behind, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, _, late = behind
    model = loaded.model
    texts = [text for text in loaded.golden.texts if text not in late] + late
    first, second = (Reader(model._tiers[place].predictor) for place in (0, 1))
    for place, reader in enumerate((first, second)):
        monkeypatch.setitem(model._tiers, place, replace(model._tiers[place], predictor=reader))
    if asked == "engine":
        Engine(loaded).run([Question(text) for text in texts])
    else:
        getattr(model, asked)(texts)
    assert first.read == texts
    assert second.read == late
    assert 0 < len(late) < len(texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tiers", "contract", "shipped"),
    [
        ("cascade", {"keep": 0.5}, "half, narrow, few words"),
        ("cascade", {"p50_ms": 1000}, "cascade"),  # nothing is asked of its quality: the largest that fits
        ("static", {"size_mb": 0.06}, "static"),
    ],
)
def test_tiers_stand_in_the_search_of_a_contract(
    tiers: str, contract: dict[str, float], shipped: str, tmp_path: Path, tiny_cache: Path
) -> None:
    result = make_run(tmp_path, tiny_cache, tiers, pool=300, contract=contract)
    outcome = result.evidence.shrunk.outcome
    assert outcome is not None
    assert tiers in {form.name for form in outcome.forms}
    assert outcome.shipped.name == shipped
    assert bundle.load(result.bundle).manifest.tiers[0].kind == (("encoder") if shipped != tiers else "static")
    compression = result.report.compression
    assert compression is not None
    assert [variant.name for variant in compression.variants if variant.shipped] == [shipped]
    assert (compression.cascade is not None) == (shipped == "cascade")
    if shipped == tiers:
        assert outcome.shipped.kept is not None
        assert 0.5 < outcome.shipped.kept <= 1.2


def test_how_sure_a_first_tier_is() -> None:
    said = np.array([[0.5, 0.4, 0.1], [0.5, 0.25, 0.25], [0.9, 0.1, 0.0]])
    np.testing.assert_allclose(lead_of(said), [5 / 9, 2 / 3, 0.9])
    np.testing.assert_array_equal(exit_confidence("odds", said, said.max(1)), lead_of(said))
    np.testing.assert_array_equal(exit_confidence("probability", said, said.max(1)), said.max(1))
    np.testing.assert_array_equal(exit_confidence("answer", said, np.array([0.1, 0.2, 0.3])), [0.1, 0.2, 0.3])


def test_few_texts_are_mixed_with_one_another() -> None:
    texts = ["one two three four", "五六七八九十", "", "ten"]
    made = with_mixtures(texts, seed=3)
    assert made[: len(texts)] == texts
    assert len(made) == len(texts) + MIXTURES * 3  # of a text without words there is no piece
    assert made == with_mixtures(texts, seed=3) != with_mixtures(texts, seed=4)
    for mixture in made[len(texts) :]:
        halves = [(mixture[:place], mixture[place + 1 :]) for place, character in enumerate(mixture) if character == " "]
        assert any(a and b and a in one and b in other for a, b in halves for one in texts for other in texts), mixture


def test_many_texts_are_lessons_enough() -> None:
    texts = [f"text number {n}" for n in range(ENOUGH - 2)]
    assert len(with_mixtures(texts, seed=0)) == ENOUGH
    assert with_mixtures([*texts, "a", "b", "c"], seed=0) == [*texts, "a", "b", "c"]


def test_the_last_steps_are_without_mixtures() -> None:
    steps = 20
    read = [set(batch.tolist()) for batch in _batches(5 * BATCH, 2 * BATCH, steps, 0)]
    assert len(read) == steps
    mixed = [bool(batch - set(range(2 * BATCH))) for batch in read]
    assert all(mixed[:5])  # an epoch with mixtures begins only in the first steps, and ends where it ends
    assert not any(mixed[10:])
    assert set.union(*read[:5]) == set(range(5 * BATCH))
    assert set.union(*read[10:12]) == set(range(2 * BATCH))
