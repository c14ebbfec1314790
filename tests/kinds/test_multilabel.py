"""Any number of labels for each text, from the file to the bundle, the report and the commands."""

import csv
import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference
from typer.testing import CliRunner

import refsynth
from refsynth.bundle.manifest import Manifest
from refsynth.cli.app import app
from refsynth.cli.explain import explained
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, DataError
from refsynth.core.kinds import TASK_KINDS
from refsynth.core.labelset import JOINER, NONE, join_labels, split_labels, unfit_name
from refsynth.core.observe import Silent
from refsynth.core.task import Task
from refsynth.core.types import Example, Prediction
from refsynth.core.value import spell
from refsynth.data.io import read_examples
from refsynth.data.labels import as_labels
from refsynth.data.rows import iter_rows
from refsynth.data.split import fold_of
from refsynth.data.text import clean
from refsynth.kinds import ANY_LABELS, FEW_POSITIVES, KINDS, ONE_LABEL, best_threshold, metrics
from refsynth.labels.more import add_labels
from refsynth.labels.next import ask_next
from refsynth.learning.baseline import TfidfLearner
from refsynth.learning.candidates import Candidate
from refsynth.learning.head import NEVER, fit_label_heads
from refsynth.learning.rows import Rows
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from refsynth.pipeline.reopen import reopened
from refsynth.synthesis.demand import demand_of
from refsynth.synthesis.selection.scorers import agreement_of_sets
from tests.support.held import held_of
from tests.support.sets import LABELS, examples_, rows_

names = st.text(min_size=1).filter(lambda name: not unfit_name(name))
marks = st.integers(1, 12).flatmap(lambda n: st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=n, max_size=n))


@given(st.lists(names, unique=True, min_size=1).flatmap(lambda all_: st.tuples(st.just(all_), st.sets(st.sampled_from(all_)))))
def test_a_set_comes_apart_as_it_was_joined(both):
    labels, some = both
    joined = join_labels(some, labels)
    assert split_labels(joined) == tuple(label for label in labels if label in some)
    assert join_labels(split_labels(joined), labels) == joined
    assert (joined == NONE) == (not some)
    row = ANY_LABELS.truth([joined], labels)
    assert ANY_LABELS.shown(row[0], labels) == joined


@pytest.mark.parametrize("name", ["a + b", NONE, " a", "+ a", "a +"])
def test_names_that_cannot_be_told_from_a_set_are_refused(name):
    with pytest.raises(ConfigError, match="cannot be one of several"):
        RunConfig.parse(tree(labels=[name, "c"]))


def tree(**changes):
    return {"task": "multilabel", "labels": LABELS, "data": {"train": "a"}} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {}}, "data.train"),
        ({"data": {"train": "a", "separator": "o"}}, "found 'o' within the label 'broken'"),
        ({"data": {"train": "a", "pool": "b"}}, "selftrain: {per_class: 0}"),
        ({"data": {"train": "a", "columns": {"pair": "b"}}}, "task: pairs"),
        ({"learners": ["frozen", "contrastive"]}, "contrastive pulls texts of one label"),
        ({"synthesis": {"ways": ["contrast"]}}, "synthesis.ways: contrast"),
        ({"synthesis": {"rounds": 3}}, "synthesis.rounds"),
        ({"reinforce": {"iterations": 2}}, "reinforce.iterations"),
        ({"training": {"rdrop": 1}}, "training.rdrop"),
        *(
            ({"filter": {key: value}}, f"filter.{key} is {what}")
            for key, value, what in (
                ("influence", 0.1, "not for task: multilabel"),
                ("targets", "judge", "for tasks of"),
            )
        ),
        ({"task": "classify", "data": {"train": "a", "separator": "|"}}, "task: multilabel"),
    ],
)
def test_what_makes_no_sense_for_sets_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.parse(tree(**changes))


def test_what_is_usual_for_sets_is_filled_in():
    config = RunConfig.parse(tree())
    assert (config.data.separator, config.learners) == ("|", TASK_KINDS["multilabel"].learners)
    assert RunConfig.parse(tree(data={"train": "a", "separator": ";"})).data.separator == ";"
    assert set(KINDS) == set(TASK_KINDS)


def test_sets_are_read_from_lists_and_from_cells(tmp_path):
    given_ = [["money", "late"], [], ["broken"], None]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}", "label": label}) + "\n" for i, label in enumerate(given_)), "utf-8")
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        cells = ["money | late", NONE, "broken", ""]
        writer.writerows([("text", "label"), *((f"text {i}", cell) for i, cell in enumerate(cells))])
    for file in (path, tmp_path / "rows.csv"):
        loaded = read_examples(file, labels=LABELS, separator="|")
        assert [row.label for row in loaded.examples] == ["late + money", NONE, "broken"]
        assert [(row.row, row.reason) for row in loaded.skipped] == [(4, "no label")]
        assert loaded.counts == {"late": 1, "broken": 1, "money": 1}
        assert [row.label for row in iter_rows(file, separator="|")] == ["money + late", NONE, "broken", None]


@given(
    st.lists(
        names.map(clean).filter(
            lambda name: name and "|" not in name and not unfit_name(name) and JOINER.strip() not in name and spell(name) == name
        ),
        unique=True,
    )
)
def test_lists_and_cells_say_the_same(given_):
    wanted_ = as_labels(given_, "|")
    assert wanted_ == (JOINER.join(given_) or NONE)
    assert as_labels("|".join(given_) or NONE, "|") == wanted_
    assert as_labels(wanted_, "|") == wanted_  # what `refsynth label add` and the record write


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (["late", "brokn"], r"row 2: label 'brokn' is not in task.yaml[\s\S]*did you mean 'broken'"),
        (["late", ""], "row 2: the list in 'label' holds an empty name, expected names of labels"),
        (["late", ["broken"]], "row 2: the list in 'label' holds a JSON array, expected names"),
        ({"late": 1}, "row 2: 'label' is a JSON object, expected a string, a number or a list"),
        ("late; broken", r"row 2: label 'late; broken' is not in task.yaml\n.*, in a cell with '\|' between them"),
    ],
)
def test_a_wrong_set_is_named(tmp_path, label, message):
    path = tmp_path / "rows.jsonl"
    rows = [{"text": "a", "label": ["late"]}, {"text": "b", "label": label}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(DataError, match=message):
        read_examples(path, labels=LABELS, separator="|", least_labels=1)


@given(marks, st.randoms(use_true_random=False))
def test_figures_are_those_of_scikit_learn(truth, rng):
    truth = np.array(truth, int)
    said = np.array([[rng.random() < 0.4 for _ in range(4)] for _ in truth], int)
    scores = metrics.row_f1(truth, said)
    assert scores.mean() == pytest.approx(reference.f1_score(truth, said, average="samples", zero_division=1))
    assert metrics.micro_f1(truth, said) == pytest.approx(reference.f1_score(truth, said, average="micro", zero_division=0))
    assert metrics.exact_match(truth, said).mean() == pytest.approx(reference.accuracy_score(truth, said))
    occurs = np.flatnonzero(truth.any(0) | said.any(0))
    if len(occurs):
        wanted_ = reference.f1_score(truth, said, average="macro", labels=occurs, zero_division=0)
        assert metrics.mean_f1(truth, said) == pytest.approx(wanted_)
    table = metrics.per_label(truth, said)
    precision, recall, f1, support = reference.precision_recall_fscore_support(truth, said, average=None, zero_division=0)
    for ours, theirs in zip(table, (precision, recall, f1, support), strict=True):
        np.testing.assert_allclose(ours, theirs)


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=12))
def test_no_cut_has_a_higher_f1_than_the_best(rows):
    values, truth = np.array([value for value, _ in rows], float), np.array([mark for _, mark in rows], int)
    found = best_threshold(values, truth)
    f1 = [metrics.micro_f1(truth[:, None], (values >= cut).astype(int)[:, None]) for cut in (found, *values, 9)]
    assert not truth.any() or f1[0] == max(f1)


def test_a_rare_label_has_the_cut_of_all_labels():
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(60, 2)), np.zeros((60, 2), int)
    truth[:, 0] = logits[:, 0] > 1
    truth[: FEW_POSITIVES - 1, 1] = 1
    own, rare = ANY_LABELS.thresholds(logits, truth)
    common = best_threshold(logits.ravel(), truth.ravel())
    assert rare == common
    assert own == pytest.approx((common + best_threshold(logits[:, 0], truth[:, 0])) / 2)


def test_confidence_is_the_probability_of_the_whole_set():
    said = np.array([[0.9, 0.2], [0.4, 0.4]])
    answers = ANY_LABELS.decide(said, np.array([0.5, 0.1]))
    assert answers.tolist() == [[1, 1], [0, 1]]
    np.testing.assert_allclose(ANY_LABELS.confidence(said, answers), [0.9 * 0.2, 0.6 * 0.4])
    one = Prediction("a + b", {"a": 0.9, "b": 0.2}, labels=("a", "b"))
    assert one.probability == pytest.approx(0.18)
    assert one.likeliest == "a"


def test_heads_of_labels_without_rows_and_with_all():
    features = np.random.default_rng(0).normal(size=(20, 3))
    truth = np.stack([features[:, 0] > 0, np.zeros(20, bool), np.ones(20, bool)], 1).astype(int)
    head = fit_label_heads(features, truth, strength=10, weights=np.ones(20))
    logits = head.logits(features)
    assert ((logits[:, 0] > 0) == truth[:, 0]).mean() > 0.9
    assert (logits[:, 1] == NEVER).all()
    assert (logits[:, 2] == -NEVER).all()


def test_each_head_is_a_logistic_regression_of_its_own():
    rows = examples_(40)
    learner = TfidfLearner(tuple(LABELS), language="en", link="sigmoid")
    texts = [row.text for row in rows]
    whole = learner.fit(rows, (), seed=0).logits(texts)
    flipped = [Example(row.id, row.text, join_labels(split_labels(row.label)[:1], list(LABELS))) for row in rows]
    first = [row.label.split(JOINER)[0] == "late" or "late" not in row.label for row in flipped]
    assert all(first)
    np.testing.assert_allclose(learner.fit(flipped, (), seed=0).logits(texts)[:, 0], whole[:, 0], atol=1e-6)


def test_full_fine_tuning_learns_several_labels(tiny_folder):
    rows = examples_(24)
    encoder = TransformerEncoder(tiny_folder, max_tokens=16)
    fitted = FinetuneLearner(tuple(LABELS), encoder, recipe=TrainingRecipe(epochs=40, learning_rate=1e-3), link="sigmoid").fit(
        rows, (), seed=0
    )
    said = ANY_LABELS.decide(metrics.sigmoid(fitted.logits([row.text for row in rows])))
    truth = ANY_LABELS.truth([row.label for row in rows], tuple(LABELS))
    assert metrics.micro_f1(truth, said) > 0.7


@given(st.lists(st.sets(st.sampled_from("abc")), min_size=1, max_size=30), st.integers(2, 5), st.integers(0, 9))
def test_folds_spread_each_label_of_sets(sets, folds, seed):
    rows = [Example(f"row-{i}", str(i), join_labels(some, "abc")) for i, some in enumerate(sets)]
    groups = np.arange(len(rows))
    fold = fold_of(rows, folds=folds, seed=seed, groups=groups, names=ANY_LABELS.names)
    np.testing.assert_array_equal(fold, fold_of(rows, folds=folds, seed=seed, groups=groups, names=ANY_LABELS.names))
    assert fold.shape == (len(rows),)
    assert set(fold) <= set(range(folds))


def test_rows_of_one_label_are_spread_evenly_over_the_folds():
    sets = [["a"], ["a", "b"], ["b"], []] * 8
    rows = [Example(f"row-{i}", str(i), join_labels(some, "ab")) for i, some in enumerate(sets)]
    fold = fold_of(rows, folds=4, seed=0, groups=np.arange(32), names=ANY_LABELS.names)
    truth = ANY_LABELS.truth([row.label for row in rows], "ab")
    counts = np.array([truth[fold == one].sum(0) for one in range(4)])
    assert np.ptp(counts, axis=0).max() <= 2


def test_agreement_is_of_the_least_likely_asked_label_with_the_likeliest_other():
    logits = np.array([[2.0, 1.0, -1.0], [2.0, 1.0, -1.0], [2.0, 1.0, -1.0], [-3.0, -2.0, -4.0]])
    truth = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]])
    expected = 1 / (1 + np.exp([-1 - 1, 1 + 1, 0 + 1, -2 - 0]))
    np.testing.assert_allclose(agreement_of_sets(logits, truth), expected)


def test_drafts_are_asked_of_each_label_and_of_the_sets_that_occur():
    task = Task.of(RunConfig.parse(tree(synthesis={"drafts": 20})))
    sets = ["late + broken"] * 3 + [NONE] * 2 + ["late"] * 4 + ["broken + money"]
    examples = tuple(Example(f"row-{i}", f"t{i}", one) for i, one in enumerate(sets))
    rows = Rows(examples, np.zeros(10), "en", {}, ANY_LABELS, np.arange(10))
    asked = demand_of(task, rows)
    assert list(asked.meanings) == [*LABELS, "late + broken", NONE]  # 20 drafts for five of the six
    assert asked.meanings["late + broken"] == "something arrives late, and something is damaged"
    assert asked.meanings[NONE]
    assert asked.focus.need == {"late": 5, "broken": 1, "money": 1, "late + broken": 4, NONE: 3}


def test_a_fold_is_judged_with_cuts_that_it_had_no_part_in():
    rng = np.random.default_rng(0)
    folds, truth = np.arange(40) % 4, np.zeros((40, 1), int)
    truth[::2, 0] = 1
    logits = (truth + rng.normal(size=(40, 1)))[None]
    one = Candidate("frozen", False)
    held = held_of(truth, {one: logits}, folds=folds, kind=ANY_LABELS)
    before = held.answers_of(logits)[0]
    for fold in range(4):
        mine = folds == fold
        turned = truth.copy()
        turned[mine] = 1 - turned[mine]
        again = held_of(turned, {one: logits}, folds=folds, kind=ANY_LABELS).answers_of(logits)[0]
        np.testing.assert_array_equal(before[mine], again[mine])
    single = held_of(truth[:, 0], {one: np.concatenate([-logits, logits], 2)}, folds=folds, kind=ONE_LABEL)
    np.testing.assert_array_equal(single.scores(one), (logits[0, :, 0] > 0) == truth[:, 0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_cache):
    folder = tmp_path_factory.mktemp("sets")
    for name, n, seed in (("train", 40, 0), ("test", 24, 1)):
        lines = (json.dumps(row) + "\n" for row in rows_(n, seed))
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    config = {
        "task": "multilabel",
        "language": "en",
        "labels": LABELS,
        "data": {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")},
        "reference": "echo",
        "synthesis": {"drafts": 24, "per_prompt": 4},
        "filter": {"scores": {"likelihood": -100.0}},
        "gate": {"folds": 2},
        "learners": ["tfidf", "frozen"],
    }
    return run(Task.of(RunConfig.parse(config)), folder / "out", store=ModelStore(tiny_cache))


def test_a_run_on_sets_ends_with_a_bundle_of_sets(finished):
    model = refsynth.load(finished.bundle)
    test = finished.evidence.test
    assert model.manifest.task == "multilabel"
    assert len(model.manifest.calibration.thresholds) == 3
    texts = [row["text"] for row in rows_(24, 1)]
    np.testing.assert_allclose(model.probabilities(texts), test.probabilities, atol=1e-5)
    np.testing.assert_array_equal(model.decide(model.probabilities(texts)), test.predicted["shipped"])
    for one, row in zip(model.predict(texts), test.predicted["shipped"], strict=True):
        assert one.labels == tuple(label for label, mark in zip(LABELS, row, strict=True) if mark)
        assert one.label == join_labels(one.labels, list(LABELS))
        assert one.abstain == (one.probability < model.manifest.calibration.threshold)
    assert metrics.row_f1(test.truth, test.predicted["shipped"]).mean() > 0.5
    assert "cross-validated F1 per row" in model.manifest.metrics
    assert "| decision threshold |" in (finished.bundle / "README.md").read_text("utf-8")


def test_what_to_label_next_and_the_answers_taken_in(finished, tmp_path, tiny_cache):
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows_(60, 7)), "utf-8")
    run_folder = finished.evidence.folder.path
    with reopened(run_folder, (), Silent(), store=ModelStore(tiny_cache)) as begun:
        job = begun.job
        asked = ask_next(job, pool, n=5, strategy="margin", out=tmp_path / "next.jsonl")
    forms = [json.loads(line) for line in asked.file.read_text("utf-8").splitlines()]
    assert len(forms) == 5 and all(form["label"] == "" and "yes and no" in form["reason"] for form in forms)
    names = list(LABELS)
    filled = [form | {"label": names[: place % 3]} for place, form in enumerate(forms)]
    (tmp_path / "filled.jsonl").write_text("".join(json.dumps(form) + "\n" for form in filled), "utf-8")
    assert add_labels(run_folder, tmp_path / "filled.jsonl").added.added == 5


def test_a_bundle_with_too_few_thresholds_is_refused(finished):
    manifest = refsynth.load(finished.bundle).manifest.model_dump(mode="json")
    (tier,) = manifest["tiers"]
    few = [tier | {"calibration": tier["calibration"] | {"thresholds": [0.5, 0.5]}}]
    with pytest.raises(ValueError, match="2 thresholds for 3 labels"):
        Manifest.model_validate_json(json.dumps(manifest | {"tiers": few}))
    with pytest.raises(ValueError, match="3 thresholds for 3 labels of task classify"):
        Manifest.model_validate_json(json.dumps(manifest | {"task": "classify"}))


def test_the_report_says_what_is_measured(finished):
    tree_ = json.loads(finished.paths.json.read_text("utf-8"))
    shipped = tree_["results"]["systems"][-1]
    assert shipped["accuracy"] is None
    for field in ("f1_per_row", "micro_f1", "macro_f1", "exact_match"):
        assert 0 <= shipped[field]["value"] <= 1
    assert "F1 per row is" in tree_["verdict"]
    assert tree_["classes"]["confusion"] == []
    new = 24 - len(tree_["overlap"]["same"])  # a few rows come up in train too
    assert tree_["results"]["n"] == new
    assert tree_["calibration"]["decisions"] == 3 * new
    assert sum(cell["n"] for cell in tree_["calibration"]["bins"]) == 3 * new
    for text in (finished.paths.html.read_text("utf-8"), finished.paths.markdown.read_text("utf-8")):
        assert "F1 per row" in text
        assert "exact match" in text
        assert "ccuracy" not in text.replace("unsure: {accuracy:", "")  # which is a key
        assert "onfusion" not in text


def test_predict_and_evaluate_speak_of_sets(finished, tmp_path):
    test = finished.evidence.task.test
    out = CliRunner().invoke(app, ["predict", str(finished.bundle), str(test)])
    assert out.exit_code == 0, out.output
    records = [json.loads(line) for line in out.stdout.splitlines()]
    assert all("label" not in record and set(record["labels"]) <= set(LABELS) for record in records)
    figures = CliRunner().invoke(app, ["evaluate", str(finished.bundle), str(test), "--json"])
    measured = json.loads(figures.stdout)
    (whole,) = (one for one in finished.report.results.systems if one.name == "the bundle, all 24 rows")
    assert measured["f1_per_row"]["value"] == pytest.approx(whole.f1_per_row.value)
    assert measured["exact_match"]["value"] == pytest.approx(whole.exact_match.value)
    assert [row["threshold"] for row in measured["classes"]] == list(
        refsynth.load(finished.bundle).manifest.calibration.thresholds
    )
    (tmp_path / "rows.csv").write_text("text,label\nlate parcel,late;money\nhello,(none)\nx,wrong;late\n", "utf-8")
    said = CliRunner().invoke(app, ["evaluate", str(finished.bundle), str(tmp_path / "rows.csv"), "--separator", ";"])
    assert "2 rows; left out: 1 unknown label" in said.output
    for line in ("F1 per row", "micro-F1", "macro-F1", "exact match", "threshold"):
        assert line in said.output
    assert "'wrong' (1 row)" in said.output


@pytest.mark.parametrize(("name", "options"), [("rows.jsonl", []), ("rows.csv", ["--separator", ";"])])
def test_init_notices_sets(tmp_path, name, options):
    rows = list(rows_(24))
    if name.endswith("jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        lines = ["text,label", *(f"{row['text']},{';'.join(row['label']) or NONE}" for row in rows)]
        (tmp_path / name).write_text("\n".join(lines), "utf-8")
    said = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(tmp_path / name), *options])
    assert said.exit_code == 0, said.output
    config = RunConfig.load(tmp_path / "task" / "task.yaml")
    assert config.task == "multilabel"
    assert set(config.labels) == set(LABELS)
    assert config.data.separator == (options[1] if options else "|")
    assert config.learners == TASK_KINDS["multilabel"].learners
    assert "any number of labels for each text" in (tmp_path / "task" / "task.yaml").read_text("utf-8")
    assert yaml.safe_load((tmp_path / "task" / "task.yaml").read_text("utf-8"))["task"] == "multilabel"
    pairs = CliRunner().invoke(
        app, ["init", str(tmp_path / "b"), "--from", str(tmp_path / name), *options, "--pair-column", "text"]
    )
    assert isinstance(pairs.exception, ConfigError)


def test_explain_speaks_of_one_label(finished):
    model = refsynth.load(finished.bundle)
    (said,) = model.predict(["broken and late parcel"])
    why = explained(model, "broken and late parcel", None, top=50)
    assert why["label"] == said.likeliest
    assert explained(model, "broken and late parcel", "money", top=50)["probability"] == said.probabilities["money"]
