"""When a bundle is unsure: one rule, in one sentence, the same in the report, the card and on the screen."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

import refsynth
from refsynth.bundle.manifest import Manifest
from refsynth.bundle.rules import UnsureRule
from refsynth.bundle.unsure import unsure_sentence
from refsynth.cli.app import app
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, InputError
from refsynth.evaluation.calibrate import calibrate
from refsynth.evaluation.report import render_html, render_markdown
from refsynth.kinds import ONE_LABEL
from refsynth.learning.candidates import Candidate
from refsynth.learning.unused_settings import without_effect
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from refsynth.service.http.engine import LoadedBundle
from refsynth.service.http.settings import Settings
from tests.support.held import held_of
from tests.support.runs import make_task

FAST = {"synthesis": {"drafts": 0}, "learners": ["tfidf"]}


@pytest.mark.parametrize(
    ("rule", "threshold", "said"),
    [
        ((0.9, 96, True), 0.61, "Unsure below a confidence of 0.610: the lowest at which 90% of the answers to 96 held-out rows"),
        ((0.975, 9, True), 0.0, "Never unsure: with all of 9 held-out rows answered, 97.5% of the answers or more were right."),
        ((0.9, 40, False), 0.8, "Unsure below a confidence of 0.800: at least half of 40 held-out rows must be answered, and no"),
        ((1.0, 40, False), 0.0, "Never unsure: at least half of 40 held-out rows must be answered, and no threshold"),
    ],
)
def test_the_sentence_says_which_rule_it_was(rule, threshold, said):
    accuracy, rows, reached = rule
    assert UnsureRule(accuracy=accuracy, rows=rows, reached=reached).sentence(threshold).startswith(said)


def noisy(n, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    logits = rng.normal(0, 1.2, (n, 2))
    logits[np.arange(n), truth] += 1.5
    return truth, logits


def calibrated(n, **options):
    truth, logits = noisy(n)
    held = held_of(truth, {Candidate("tfidf", False): logits[None]}, folds=np.arange(n) % 4, kind=ONE_LABEL)
    return calibrate(held, logits[None], **options)


def test_what_is_asked_for_sets_the_threshold_and_the_choices_show_the_others():
    low, high = (calibrated(200, target=target) for target in (0.8, 0.97))
    assert low.threshold.threshold < high.threshold.threshold
    assert (low.rule.accuracy, high.rule.accuracy) == (0.8, 0.97)
    assert [choice.target for choice in high.choices] == [0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99]
    thresholds = [choice.threshold for choice in high.choices]
    assert thresholds == sorted(thresholds)
    (mine,) = (choice for choice in high.choices if choice.target == 0.97)
    assert (mine.threshold, mine.answered.value) == (high.threshold.threshold, high.crossed.coverage)
    assert mine.accuracy.value == pytest.approx(1 - high.crossed.risk)
    assert mine.accuracy.low < mine.accuracy.value < mine.accuracy.high


@pytest.mark.parametrize("value", [0, -0.1, 1.01, "high"])
def test_an_accuracy_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match=r"unsure\.accuracy"):
        RunConfig.parse({"labels": ["a", "b"], "unsure": {"accuracy": value}})


def test_without_labeled_rows_it_has_no_effect_and_that_is_said():
    tree = {"labels": ["a", "b"], "unsure": {"accuracy": 0.95}}
    assert any(line.startswith("unsure: there are no labeled rows") for line in without_effect(RunConfig.parse(tree)))
    assert not any("unsure" in line for line in without_effect(RunConfig.parse({**tree, "data": {"train": "t.csv"}})))


@pytest.fixture(scope="module")
def asked(tmp_path_factory, tiny_cache):
    where = tmp_path_factory.mktemp("unsure")
    return run(make_task(where / "data", **FAST, unsure={"accuracy": 0.97}), where / "out", store=ModelStore(tiny_cache))


def test_report_and_card_say_the_same_sentence(asked):
    manifest = refsynth.load(asked.bundle).manifest
    assert manifest.unsure.accuracy == 0.97
    sentence = unsure_sentence(manifest)
    assert sentence
    for said in (render_html(asked.report), render_markdown(asked.report), (asked.bundle / "README.md").read_text("utf-8")):
        assert sentence in said
    assert json.loads(asked.paths.json.read_text("utf-8"))["calibration"]["choices"][0]["target"] == 0.8


def test_a_manifest_without_a_rule_says_nothing_and_one_with_a_broken_rule_is_refused(asked):
    manifest = refsynth.load(asked.bundle).manifest
    assert unsure_sentence(manifest.model_copy(update={"unsure": None})) == ""
    for broken in ("x", {"accuracy": 7, "rows": 1, "reached": True}, {"accuracy": 0.5}):
        with pytest.raises(ValidationError):
            Manifest.model_validate_json(json.dumps({**manifest.model_dump(mode="json"), "unsure": broken}))


def test_another_threshold_takes_the_place_of_the_bundles(asked):
    texts = ["the parcel is late", "a crack", "hello"]
    sure = [prediction.probability for prediction in refsynth.load(asked.bundle).predict(texts)]
    for threshold in (0.0, sorted(sure)[1], 1.0):
        model = refsynth.load(asked.bundle, threshold=threshold)
        assert [prediction.abstain for prediction in model.predict(texts)] == [each < threshold for each in sure]
        sentence = unsure_sentence(model.manifest, threshold)
        assert sentence.startswith(f"Unsure below a confidence of {threshold:.3f}, as asked for")


def test_the_reader_of_a_report_sees_the_choices(asked):
    page = render_html(asked.report)
    assert page.count("Other thresholds") == 1
    without = replace(asked.report, calibration=replace(asked.report.calibration, choices=()))
    assert "Other thresholds" not in render_html(without)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.99])
def test_predict_says_the_same_sentence_as_the_card(asked, tmp_path, threshold):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"number {n} parcel crack"}) + "\n" for n in range(3)), "utf-8")
    options = [] if threshold is None else ["--threshold", str(threshold)]
    result = CliRunner().invoke(app, ["predict", str(asked.bundle), str(rows), *options])
    assert result.exit_code == 0, result.output
    manifest = refsynth.load(asked.bundle).manifest
    assert unsure_sentence(manifest, threshold) in " ".join(result.stderr.split())
    bar = manifest.calibration.threshold if threshold is None else threshold
    for record in map(json.loads, result.stdout.splitlines()):
        assert record["abstain"] == (max(record["probabilities"].values()) < bar)


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan", "high"])
@pytest.mark.parametrize("command", ["predict", "serve"])
def test_a_threshold_that_is_none_is_refused(asked, command, value):
    result = CliRunner().invoke(app, [command, str(asked.bundle), "--threshold", value])
    assert result.exit_code == 2


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_a_threshold_that_is_none_is_refused_in_python(asked, value):
    with pytest.raises(InputError, match="threshold"):
        refsynth.load(asked.bundle, threshold=value)


def test_a_server_takes_another_threshold(asked):
    settings = Settings.of(bundle=asked.bundle, threshold=0.99)
    loaded = LoadedBundle.open(settings.bundle, threads=1, threshold=settings.threshold)
    assert loaded.model.threshold == 0.99
    assert LoadedBundle.open(settings.bundle, threads=1).model.threshold == loaded.model.manifest.calibration.threshold
    assert [each.abstain for each in loaded.model.predict(["hello", "my parcel"])] == [True, True]
