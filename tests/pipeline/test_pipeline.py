import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import refsynth
from refsynth.core.config import RunConfig
from refsynth.core.drafting import FilterConfig
from refsynth.core.errors import ConfigError, DataError, InputError
from refsynth.core.files import read_json, read_jsonl, write_json
from refsynth.core.hashes import digest, file_digest, folder_digest
from refsynth.core.intervals import mean_interval
from refsynth.core.observe import Silent
from refsynth.core.run import RunFolder
from refsynth.core.scorers import SCORERS
from refsynth.core.task import Task
from refsynth.core.types import Completion, Draft, Example, Provenance, kept
from refsynth.data.text import near_groups, normalize
from refsynth.evaluation.leakage import LEAKED, leaked
from refsynth.evaluation.trace import trace_row
from refsynth.kinds import ONE_LABEL
from refsynth.learning.candidates import Candidate, safe_for
from refsynth.learning.gate import decide
from refsynth.learning.rows import Rows, read_rows
from refsynth.models.reference import EchoGenerator
from refsynth.models.reference.context import reference_key
from refsynth.models.store import ModelStore
from refsynth.pipeline import begin as begin_module
from refsynth.pipeline import flow, report
from refsynth.pipeline.begin import begin
from refsynth.pipeline.encoder import language_notes
from refsynth.pipeline.flow import run, synthesize, writers_of
from refsynth.pipeline.reopen import reopened
from refsynth.synthesis import build, rounds
from refsynth.synthesis.draft_writer import DraftWriter
from refsynth.synthesis.drafts import write_drafts
from refsynth.synthesis.rounds import _focus, screened
from refsynth.synthesis.selection import influence
from refsynth.synthesis.selection.choose import Chooser, choice_of
from refsynth.synthesis.selection.soft_labels import judge_drafts
from tests.support.held import held_of
from tests.support.jobs import job_of
from tests.support.runs import WORDS, Told, make_task
from tests.support.tiers import make_run

UNLIKELY, HARMFUL = SCORERS["likelihood"].reason, SCORERS["influence"].reason


@pytest.fixture
def finished(whole_run):
    return whole_run.evidence


def test_a_run_ends_with_a_bundle_that_predicts(finished):
    model = refsynth.load(finished.bundle)
    predictions = model.predict(["my parcel is late", "it is broken"])
    assert {p.label for p in predictions} <= set(WORDS)
    assert finished.test is not None
    said = model.probabilities([row["text"] for row in read_jsonl(finished.task.test)])
    np.testing.assert_allclose(said, finished.test.probabilities, atol=1e-5)


def test_its_report_has_every_section(whole_run):
    report, paths = whole_run.report, whole_run.paths
    assert report.results is not None and report.gate is not None and report.drafts is not None
    assert [system.shipped for system in report.results.systems].count(True) == 1
    assert report.drafts.kept + sum(report.drafts.dropped.values()) == report.drafts.asked
    for path in paths:
        assert path.stat().st_size > 1000


def test_running_again_makes_no_step_again(finished, tmp_path, tiny_cache):
    shutil.copytree(finished.folder.path, tmp_path / "out")  # a report holds the speed of its own run; others read the first
    events = (tmp_path / "out" / "events.jsonl").read_text()
    before = folder_digest(finished.folder.steps)
    run(finished.task, tmp_path / "out", store=ModelStore(tiny_cache))
    assert folder_digest(tmp_path / "out" / "steps") == before
    assert (tmp_path / "out" / "events.jsonl").read_text() == events


def test_the_same_task_elsewhere_ends_with_the_same_hashes(finished, tmp_path, tiny_cache):
    other = run(finished.task, tmp_path / "other", store=ModelStore(tiny_cache)).evidence
    assert folder_digest(other.bundle) == folder_digest(finished.bundle)
    assert folder_digest(other.folder.steps) == folder_digest(finished.folder.steps)


def test_labels_in_another_order_are_not_answered_in_the_old_one(finished, tmp_path, tiny_cache):
    """Logits are kept by place: what was measured in one order says the opposite in the other."""
    shutil.copytree(finished.folder.path, tmp_path / "out")
    turned = dict(reversed(finished.task.config.labels.items()))
    task = Task.of(finished.task.config.model_copy(update={"labels": turned}))
    again = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    model = refsynth.load(again.bundle)
    rows = list(read_jsonl(task.test))
    said = [prediction.label for prediction in model.predict([row["text"] for row in rows])]
    assert model.labels == tuple(turned)
    assert np.mean([one == row["label"] for one, row in zip(said, rows, strict=True)]) > 0.8  # 0.1 from old answers
    shares = ONE_LABEL.probabilities
    for candidate, logits in finished.learned.held.logits.items():
        np.testing.assert_allclose(shares(again.learned.held.logits[candidate]), shares(logits)[..., ::-1], atol=0.05)


def test_every_draft_traces_to_its_prompt_and_seed_rows(finished):
    drafts = list(read_jsonl(finished.folder.steps / "select" / "drafts.jsonl"))
    story = trace_row(finished.folder.path, drafts[0]["id"])
    assert story["kind"] == "draft"
    assert len(story["seed rows shown"]) == len(drafts[0]["provenance"]["shown"])
    seed = drafts[0]["provenance"]["shown"][0]
    assert trace_row(finished.folder.path, seed)["drafts that saw it"] > 0


def test_a_seed_row_that_is_removed_takes_its_drafts_with_it(finished, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data")
    lines = task.train.read_text().splitlines()
    gone = json.loads(lines[3])["text"]
    task.train.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    after = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    assert gone not in "".join(path.read_text() for path in (tmp_path / "out" / "steps").rglob("*.jsonl"))
    assert len(after.learned.rows.examples) == 11


def test_label_names_alone_give_a_bundle_and_no_claim(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", data={"test": str(tmp_path / "data" / "test.jsonl")})
    finished = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    assert finished.learned.held is None
    assert finished.learned.decision.gain is None
    report = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).report
    assert report.gate is None and "cannot be measured" in report.absent["gate"]


def test_without_a_test_file_the_figures_are_cross_validated(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", data={"train": str(tmp_path / "data" / "train.jsonl")})
    report = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).report
    assert report.results is not None and report.results.source == "cross-validation"


def shouted(path):
    """Add a copy of each row in capitals, which is a near-copy."""
    rows = list(read_jsonl(path))
    copies = [{**row, "text": row["text"].upper()} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *copies]), encoding="utf-8")


@pytest.mark.parametrize("tested", [True, False])
def test_rows_that_copy_each_other_do_not_make_figures_surer(tested, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", synthesis={"drafts": 0}, learners=["tfidf"])
    for name in ("train", "test"):
        shouted(tmp_path / "data" / f"{name}.jsonl")
    if not tested:
        task = replace(task, config=task.config.model_copy(update={"data": task.config.data.model_copy(update={"test": None})}))
    result = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    test, rows = result.evidence.test, result.evidence.learned.rows
    assert (test is not None) == tested
    groups = near_groups([row["text"] for row in read_jsonl(task.test)]) if tested else rows.groups
    np.testing.assert_array_equal(groups, test.groups if tested else result.evidence.learned.held.groups)
    assert len(np.unique(groups)) <= len(groups) / 2
    system = result.report.results.shipped
    assert system.accuracy == mean_interval("accuracy", said_right(result, tested), groups)
    if tested:
        calibration = result.report.calibration
        assert calibration.answered == mean_interval("answered", ~test.unsure, groups)


def said_right(result, tested):
    finished = result.evidence
    if tested:
        return finished.test.truth == finished.test.predicted["shipped"]
    held = finished.learned.held
    return held.truth == held.answers_of(finished.shrunk.logits)[0]


def test_synthesis_can_be_turned_off(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", synthesis={"drafts": 0})
    result = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    assert not result.evidence.learned.decision.shipped.drafts
    assert result.report.drafts is None


def test_drafts_can_be_scored_by_the_reference_itself(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", filter={"scores": {"likelihood": 0.0}, "agreement": 0.4})
    finished = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    scored = [draft for draft in finished.learned.screened if "likelihood" in draft.scores]
    assert scored
    assert all((draft.scores["likelihood"] < 0) == (draft.dropped == UNLIKELY) for draft in scored)


def test_drafts_can_be_chosen_by_influence_and_taught_by_the_judge(tmp_path, tiny_cache):
    chosen = {"agreement": 0.0, "influence": 0.4, "targets": "judge"}
    finished = run(make_task(tmp_path / "data", filter=chosen), tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    drafts = finished.learned.final.drafts
    scored = [draft for draft in drafts if "influence" in draft.scores]
    harmful = [draft for draft in scored if draft.dropped == HARMFUL]
    assert 0.25 <= len(harmful) / len(scored) <= 0.55
    for label in WORDS:
        mine = [draft for draft in scored if draft.example.label == label]
        worst = max((d.scores["influence"] for d in mine if d.dropped == HARMFUL), default=-np.inf)
        assert worst <= min(d.scores["influence"] for d in mine if d.dropped != HARMFUL)
    targets = np.array([draft.example.targets for draft in drafts if draft.dropped is None])
    np.testing.assert_allclose(targets.sum(1), 1)
    assert all(draft.example.targets is None for draft in drafts if draft.dropped)


def test_drafts_whose_influence_is_not_known_stay_and_are_counted(tmp_path, tiny_cache, monkeypatch):
    monkeypatch.setattr(influence, "ITERATIONS", 1)
    monkeypatch.setattr(influence, "DIRECT", 0)
    watch = Told()
    task = make_task(tmp_path / "data", filter={"agreement": 0.0, "influence": 0.4})
    drafts = run(task, tmp_path / "out", store=ModelStore(tiny_cache), watch=watch).evidence.learned.final.drafts
    assert not any("influence" in draft.scores or draft.dropped == HARMFUL for draft in drafts)
    chosen = sum(draft.dropped is None for draft in drafts)
    why = f"held-out rows cannot measure that of {chosen} of {chosen} selected drafts; these drafts are kept"
    assert watch.notes == [f"influence: {why}"]


def test_what_is_chosen_and_taught_depends_on_the_given_rows_alone(tmp_path, tiny_cache):
    """The labels of held-out rows are spoilt: nothing that is decided without these rows may change."""
    settings = {"agreement": 0.0, "influence": 0.3, "targets": "judge"}
    begun = begin(
        make_task(tmp_path / "data", filter=settings),
        RunFolder(tmp_path / "run"),
        ModelStore(tiny_cache),
        Silent(),
        skip_bad=False,
    )
    job, writers = begun.job, writers_of(begun)
    drafts = screened(job, writers, synthesize(job, writers)[0])
    rows, out = job.rows, job.rows.folds == 0
    held = frozenset(row.id for row, gone in zip(rows.examples, out, strict=True) if gone)
    real = [row for row in rows.examples if row.id not in held]
    spoilt = [
        replace(row, label="late" if row.label == "broken" else "broken") if row.id in held else row for row in rows.examples
    ]
    judge = job.learners["frozen"].fit(real, (), seed=0)
    safe = safe_for(drafts, held)
    said, same = (
        choice_of(replace(job, rows=replace(rows, examples=examples)), drafts)(judge, real, safe)
        for examples in (rows.examples, tuple(spoilt))
    )
    assert said == same
    assert len({draft.example.targets for draft in said if draft.dropped is None}) > 3
    assert any(draft.dropped == HARMFUL for draft in said)
    other = choice_of(job, drafts)(judge, [row for row in spoilt if row.id not in held or row.id == min(held)], safe)
    assert other != said  # a given row does count


def test_drafts_can_be_taught_by_the_judge_and_the_reference(tmp_path, tiny_cache, monkeypatch):
    calls = []

    class Counted(EchoGenerator):
        def score(self, prompts, texts):
            calls.append([prompt.shown for prompt in prompts])
            return super().score(prompts, texts)

    monkeypatch.setattr(build, "make_generator", lambda *_: Counted())
    finished = run(make_task(tmp_path / "data", filter={"targets": "ensemble"}), tmp_path / "out", store=ModelStore(tiny_cache))
    learned = finished.evidence.learned
    alive = [draft for draft in learned.screened if draft.dropped is None]
    assert len(calls) == 1 and len(calls[0]) == 3 * len(alive)  # once a run: under each of two labels and under none
    assert set(calls[0]) == {()}  # no prompt shows a row: any fold may use the answers
    assert all(set(draft.likelihoods) == set(WORDS) for draft in alive)
    assert not any(draft.likelihoods for draft in learned.screened if draft.dropped)
    targets = np.array([draft.example.targets for draft in learned.final.drafts if draft.dropped is None])
    np.testing.assert_allclose(targets.sum(1), 1)


def test_other_weights_in_the_folder_of_a_reference_write_anew(tmp_path):
    """Steps that were made with them are keyed by what the folder holds, not by its name alone."""
    folder, asked = tmp_path / "mine", []
    folder.mkdir()
    (folder / "config.json").write_text("{}")

    class Held(EchoGenerator):
        name = property(lambda self: (folder / "model.safetensors").read_text())

        def generate(self, prompts, *, n, seed):
            asked.append(self.name)
            return super().generate(prompts, n=n, seed=seed)

    task = make_task(tmp_path / "data", reference={"folder": str(folder)}, synthesis={"drafts": 8})
    out = RunFolder(tmp_path / "out")
    rows = read_rows(task, out, skip_bad=False)
    author = DraftWriter("", "", Held, task.config.synthesis, rows.examples, rows.folds)
    for weights in ("old", "old", "new"):
        (folder / "model.safetensors").write_text(weights)
        assert write_drafts(job_of(task, rows, out), [author], topics={}).reference == weights
    assert list(dict.fromkeys(asked)) == ["old", "new"] and len(asked) == 2 * asked.count("old")
    shutil.rmtree(folder)
    assert reference_key(task.config) == {"content": digest([])}  # what is gone is for its reader to tell


def test_the_embedded_reference_judges_no_language_that_it_cannot_read(tmp_path):
    task = make_task(tmp_path / "data", reference="embedded", language="zh", filter={"targets": "ensemble"})
    rows = read_rows(task, RunFolder(tmp_path / "out"), skip_bad=False)
    told = Told()
    drafts = [Draft(Example("d0", "杯子碎了", "broken", Provenance("p", (), 0, "noise")))]
    assert judge_drafts(job_of(task, rows, None, watch=told), drafts, None, reference="") == drafts
    assert len(told.notes) == 1 and "reads English only" in told.notes[0]


NO_ROWS = Rows((), np.zeros(0, int), "en", {}, ONE_LABEL, np.zeros(0, int))


class Says:
    labels = ("late", "broken")

    def logits(self, texts):
        return np.array([[1.0, 0.0] if "late" in text else [0.0, 1.0] for text in texts])


def test_the_ensemble_is_the_mean_of_two_views_of_the_drafts_at_hand():
    """Closed form: calibrated ratios of +-0.2 at a temperature of 0.2 are odds of e^2; logits 1 and 0, sharpened, too."""
    likelihoods = [{"late": 0.9, "broken": 0.1}, {"late": 0.5, "broken": 0.5}, {}]
    drafts = [
        Draft(Example(f"d{i}", text, label, Provenance("p", (), 0, "echo")), likelihoods=each)
        for i, (text, label, each) in enumerate(
            zip(["late", "mug", "late again"], ["late", "broken", "late"], likelihoods, strict=True)
        )
    ]
    drafts.append(Draft(Example("d9", "late", "late", Provenance("p", (), 0, "echo")), dropped="too short"))
    settings = FilterConfig(agreement=0.0, targets="ensemble")
    chosen = Chooser(("late", "broken"), settings, Says(), NO_ROWS, drafts).choose(Says(), (), drafts)
    high = np.exp(2) / (1 + np.exp(2))
    np.testing.assert_allclose(chosen[0].example.targets, [high, 1 - high])
    np.testing.assert_allclose(chosen[1].example.targets, [1 - high, high])
    np.testing.assert_allclose(chosen[2].example.targets, [high, 1 - high])  # the reference was not asked: the judge alone
    assert chosen[3].example.targets is None
    assert Draft.from_json(json.loads(json.dumps(drafts[0].to_json()))) == drafts[0]


class Never(Says):
    """Knows nothing of the third label, as what was fitted without rows of it."""

    labels = ("late", "broken", "lost")

    def logits(self, texts):
        return np.column_stack([super().logits(texts), np.full(len(texts), -30.0)])


def test_of_a_label_that_no_row_has_no_draft_is_taken_for_another():
    written = [("late", "late"), ("mug", "broken"), ("late", "broken"), ("late and gone", "lost")]
    drafts = [Draft(Example(f"d{i}", text, label, Provenance("p", (), 0, "echo"))) for i, (text, label) in enumerate(written)]
    rows = [Example("r0", "late", "late"), Example("r1", "mug", "broken")]
    chooser = Chooser(Never.labels, FilterConfig(), Never(), NO_ROWS, drafts)
    assert [draft.dropped is None for draft in chooser.choose(Never(), rows, drafts)] == [True, True, False, True]
    known = [*rows, Example("r2", "gone", "lost")]  # now it has met the label, and denies it
    assert [draft.dropped is None for draft in chooser.choose(Never(), known, drafts)] == [True, True, False, False]


def test_rounds_go_on_while_they_help_and_their_drafts_join(tmp_path, tiny_cache, monkeypatch):
    said = iter([0.5, 1.0, 1.0])  # held-out accuracy of the rounds: the third adds nothing

    def held_out(job, drafts, choose):
        right = int(12 * next(said))
        truth = np.array([0, 1] * 6)
        logits = np.where(np.arange(12) < right, truth, 1 - truth)
        return held_of(truth, {Candidate("frozen", drafts): np.eye(2)[logits][None] * 5 for drafts in (False, True)})

    monkeypatch.setattr(rounds, "hold_out", held_out)
    monkeypatch.setattr(flow, "hold_out", lambda job, drafts, choose: None)
    task = make_task(tmp_path / "data", synthesis={"drafts": 24, "per_prompt": 1, "rounds": 3, "shots": 1})
    result = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    learned = result.evidence.learned
    assert "| 3 | 72 |" in result.paths.markdown.read_text("utf-8")
    assert "Round by round" in result.paths.html.read_text("utf-8")
    assert all(one.coverage is not None and 0 <= one.coverage <= 1 for one in learned.rounds)
    assert [(one.number, one.used) for one in learned.rounds] == [(1, True), (2, True), (3, False)]
    parts = [list(read_jsonl(tmp_path / "out" / "rounds" / str(n) / "steps" / "part" / "drafts.jsonl")) for n in (1, 2, 3)]
    texts = [{row["id"] for row in part} for part in parts]
    assert {draft.id for draft in learned.written.drafts} == texts[0] | texts[1]
    assert not texts[0] & texts[1]
    assert not (tmp_path / "out" / "rounds" / "4").exists()
    # Rows 6 to 11 were wrong in the first round, half of each label's: both labels need the same, and wrong rows are shown first.
    shown = Counter(row for record in parts[1] for row in record["provenance"]["shown"])
    ids = [f"row-{i}" for i in range(1, 13)]  # of the file, whose rows begin at 1
    assert sum(shown[name] for name in ids[6:]) > 2 * sum(shown[name] for name in ids[:6])


def test_minutes_of_rounds_are_those_before_an_interruption_too(tmp_path, tiny_cache, monkeypatch):
    def held_out(job, drafts, choose):
        right = np.arange(12) < 6 * int(job.folder.path.name)  # the second round helps
        logits = np.eye(2)[np.where(right, 0, 1)][None] * 5
        return held_of(np.zeros(12, int), {Candidate("frozen", drafts): logits for drafts in (False, True)})

    monkeypatch.setattr(rounds, "hold_out", held_out)
    monkeypatch.setattr(flow, "hold_out", lambda job, drafts, choose: None)
    settings = {"drafts": 12, "per_prompt": 1, "rounds": 3, "shots": 1, "minutes": 5}
    task = make_task(tmp_path / "data", synthesis=settings)
    assert len(run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence.learned.rounds) == 3
    file = tmp_path / "out" / "rounds" / "1" / "seconds.json"
    write_json(file, read_json(file) | {"seconds": 1000.0})  # as if the round had taken long
    assert len(run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence.learned.rounds) == 1


def test_a_focus_follows_the_errors():
    probabilities = np.array([[0.9, 0.05, 0.05], [0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]])
    task = Task.of(RunConfig.parse({"labels": {"a": "a", "b": "b", "c": "c", "d": "d"}}))
    focus = _focus(np.pad(probabilities, ((0, 0), (0, 1))), np.array([0, 0, 1, 1, 2]), task, [f"row-{i}" for i in range(5)])
    assert focus.need == {"a": 0.625, "b": 0.25, "c": 1.0, "d": 1.0}  # d has no rows: nothing is known
    assert focus.confused == {"a": "c", "b": "a", "c": "a"}
    assert focus.hard == {"row-1", "row-2", "row-4"}


def test_the_embedded_reference_is_not_asked_for_a_language_that_it_cannot_write(tmp_path, tiny_cache, monkeypatch):
    task = make_task(tmp_path / "data", reference="embedded", language="zh")
    monkeypatch.setattr(
        begin_module, "prepare_encoder", lambda *_: ModelStore(tiny_cache).path("minilm")
    )  # the tiny e5 is no Unigram
    told = Told()
    finished = run(task, tmp_path / "out", store=ModelStore(tiny_cache), watch=told).evidence
    assert finished.learned.written.asked == 0
    assert any("writes English" in note for note in told.notes)


def test_each_file_is_read_in_its_own_encoding_and_with_its_own_delimiter(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", synthesis={"drafts": 0}, learners=["tfidf"])
    rows = list(read_jsonl(task.test))
    for text in rows:
        text["text"] += " \u00e7\u00e0 et l\u00e0, \u00e9t\u00e9"
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text;label\n" + "".join(f"{r['text']};{r['label']}\n" for r in rows[:12]), encoding="cp1252")
    test.write_text("text,label\n" + "".join(f'"{r["text"]}",{r["label"]}\n' for r in rows[12:]), encoding="utf-8")
    data = {"train": str(train), "test": str(test)}
    done = run(
        Task.of(task.config.changed([f"data={json.dumps(data)}"])), tmp_path / "out", store=ModelStore(tiny_cache)
    ).evidence
    assert len(done.test.truth) == 8
    assert "cp1252" in done.learned.rows.file["format"]


def test_test_rows_that_cannot_be_measured_are_told(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", synthesis={"drafts": 0}, learners=["tfidf"])
    with task.test.open("a", encoding="utf-8") as stream:
        stream.write('{"text": "what is this", "label": "lost"}\n{"text": 4, "label": "late"}\n')
    told = Told()
    report = run(task, tmp_path / "out", store=ModelStore(tiny_cache), watch=told).report
    assert "data.test: 1 of 22 rows left out: an unknown or missing label (row 21)" in told.notes
    assert "data.test: 1 of 22 rows left out: an unreadable row (row 22)" in told.notes
    (test,) = (file for file in report.data.files if file.role == "test")
    assert [(skipped.reason, skipped.rows) for skipped in test.skipped] == [
        ("an unknown or missing label", (21,)),
        ("an unreadable row", (22,)),
    ]


def test_a_test_file_without_the_columns_stops_the_run_before_it_begins(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data")
    test = tmp_path / "test.csv"
    test.write_text("text,topic\nx,late\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'label'"):
        run(Task.of(task.config.changed([f"data.test={test}"])), tmp_path / "out", store=ModelStore(tiny_cache))
    assert not (tmp_path / "out").exists()


def test_why_a_learner_ships_is_told_without_drafts_too(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", synthesis={"drafts": 0})
    report = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).report
    assert {line.learner for line in report.gate.comparisons} == {"TF-IDF + LR", "frozen encoder + LR"}
    measured = {line.learner: line.real.value for line in report.gate.comparisons}
    better = max(measured, key=measured.get)
    assert (better != report.gate.learner) == (f"{better} measured better" in report.gate.passed_over)


def test_what_measured_better_and_does_not_ship_is_named():
    truth = np.arange(40) % 2
    said = np.where(truth[:, None] == np.arange(2), 1.0, 0.0)
    worse = said.copy()
    worse[:2] = 1 - worse[:2]
    tfidf, lora, average = (Candidate(name, False) for name in ("tfidf", "lora", "average"))
    held = held_of(truth, {tfidf: said[None], lora: worse[None]})
    decision = decide(held, [tfidf, lora])
    assert decision.shipped == lora
    assert "TF-IDF + LR measured better (100.0% against 95.0%), but not by the 2" in report._passed_over(held, decision)
    assert report._passed_over(held, replace(decision, shipped=tfidf)) == ""
    held = held_of(truth, {average: said[None], lora: worse[None]})
    assert "no bundle can hold it" in report._passed_over(held, decide(held, [lora]))


def test_a_learner_whose_drafts_were_refused_did_not_lose_by_want_of_standard_errors():
    """Its drafts measured best, by what chance gives: without them it is the worse of the two."""
    truth = np.zeros(40, int)

    def right(count):
        return np.eye(2)[(np.arange(40) >= count).astype(int)][None]

    names = [Candidate("contrastive", False), Candidate("contrastive", True), Candidate("tfidf", False), Candidate("tfidf", True)]
    held = held_of(truth, dict(zip(names, map(right, (20, 24, 15, 23)), strict=True)))
    decision = decide(held, names)
    assert decision.competed == (names[0], names[3])
    assert report._passed_over(held, replace(decision, shipped=names[3])) == ""


def test_parts_of_a_run_are_refused_when_its_rows_have_changed(tmp_path, tiny_cache):
    task, out, store = make_task(tmp_path / "data", learners=["tfidf"]), tmp_path / "out", ModelStore(tiny_cache)
    run(task, out, store=store)
    with reopened(out, (), Silent(), store=store):
        pass
    with task.train.open("a", encoding="utf-8") as stream:
        stream.write('{"text": "one more parcel", "label": "late"}\n')
    before = folder_digest(out / "steps")
    with pytest.raises(InputError, match=r"data\.train changed since this run"), reopened(out, (), Silent(), store=store):
        pass
    assert folder_digest(out / "steps") == before
    with reopened(out, (), Silent(), store=store, grown=True) as opened:
        assert len(opened.job.rows.examples) == 13


def test_a_misspelt_test_file_stops_the_run_before_it_begins(tmp_path, tiny_cache):
    task = make_task(
        tmp_path / "data", data={"train": str(tmp_path / "data" / "train.jsonl"), "test": str(tmp_path / "tset.jsonl")}
    )
    with pytest.raises(DataError, match=r"tset\.jsonl"):
        run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    assert not (tmp_path / "out").exists()


class Cheat(EchoGenerator):
    """Echo, but the first answers to each prompt are a test row of the label, and nearly the same once more."""

    def __init__(self, rows):
        super().__init__()
        self._rows = rows

    def generate(self, prompts, *, n, seed):
        answers = super().generate(prompts, n=n, seed=seed)
        for prompt, answer in zip(prompts, answers, strict=True):
            copied = random.Random(seed).choice([row["text"] for row in self._rows if row["label"] == prompt.label])
            answer[0] = Completion(" " + copied.upper(), True)
            answer[1] = Completion(f" {copied} really", True)
        return answers


def test_planted_copies_of_test_rows_are_taken_out_and_the_run_made_again(tmp_path, tiny_cache, monkeypatch):
    task = make_task(tmp_path / "data")
    rows = list(read_jsonl(task.test))
    monkeypatch.setattr(build, "make_generator", lambda *_: Cheat(rows))
    finished = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    dropped = Counter(draft.dropped for draft in finished.learned.screened)
    assert dropped[LEAKED] > 0
    assert finished.test is not None and finished.test.leaked == ()
    texts = [example.text for example in kept(finished.learned.screened)]
    assert not leaked([Example(str(place), text, "") for place, text in enumerate(texts)], [row["text"] for row in rows])
    with reopened(tmp_path / "out", ["filter.agreement=0.1"], Silent(), store=ModelStore(tiny_cache)) as begun:
        assert set(begun.job.forget) == {draft.example.id for draft in finished.learned.screened if draft.dropped == LEAKED}
    copies = {normalize(row["text"]) for row in rows}
    assert copies.isdisjoint(normalize(draft.example.text) for draft in finished.learned.final.drafts if draft.dropped is None)


def hashes(bundle):
    """All of a bundle but its figures, which say how it did on the test file."""
    described = {path.name: file_digest(path) for path in bundle.iterdir() if path.name not in ("manifest.json", "README.md")}
    manifest = {name: part for name, part in read_json(bundle / "manifest.json").items() if name not in ("metrics", "files")}
    manifest.pop("tested")
    return described | {"manifest.json": digest(manifest)}


@pytest.mark.parametrize("learner", ["frozen", "finetune"])
def test_the_test_file_decides_nothing(tmp_path, tiny_cache, learner):
    """All that ships is the same without the test file, and with other labels or other rows in it: even those of train."""
    task = make_task(tmp_path / "data", learners=[learner], training={"epochs": 1}, gate={"folds": 2})
    train, wrong = task.train, tmp_path / "wrong.jsonl"
    flipped = [row | {"label": "late" if row["label"] == "broken" else "broken"} for row in read_jsonl(task.test)]
    wrong.write_text("".join(json.dumps(row) + "\n" for row in flipped), "utf-8")
    found = []
    for place, file in enumerate((None, wrong, train)):
        data = {"train": str(train)} | ({} if file is None else {"test": str(file)})
        asked = Task.of(task.config.changed([f"data={json.dumps(data)}"]))
        done = run(asked, tmp_path / f"out-{place}", store=ModelStore(tiny_cache)).evidence
        assert (done.test is None) is (file is None)
        found.append(hashes(done.bundle))
    assert found[1:] == found[:1] * 2
    assert len(found[0]) > 3


def test_drafts_that_are_taken_out_are_counted_and_change_what_ships(tmp_path, tiny_cache, monkeypatch):
    """The one thing that a test file decides; the run says so, and says it again where it is found done."""
    task = make_task(tmp_path / "data", learners=["frozen"])
    rows = list(read_jsonl(task.test))
    monkeypatch.setattr(build, "make_generator", lambda *_: Cheat(rows))
    told, again = Told(), Told()
    finished = run(task, tmp_path / "out", store=ModelStore(tiny_cache), watch=told).evidence
    gone = sorted(draft.example.id for draft in finished.learned.screened if draft.dropped == LEAKED)
    what = f"{len(gone)} drafts ({', '.join(gone[:3])}, ...) resemble test rows"
    assert told.notes == [f"{what}: they are taken out, and every step that used them is repeated"]
    run(task, tmp_path / "out", store=ModelStore(tiny_cache), watch=again)
    assert again.notes == [f"{what}: they are left out, as before"]
    made = ["synthesize", "screen", "judge", "select", "gate", "train"]
    assert told.stages == ["rows", *made, *made, "bundle", "test"]  # the bundle is shown once, after the repeat
    assert again.stages == ["rows", *made, "bundle", "test"]
    data = {"train": str(task.train)}
    plain = run(Task.of(task.config.changed([f"data={json.dumps(data)}"])), tmp_path / "plain", store=ModelStore(tiny_cache))
    assert hashes(plain.bundle) != hashes(finished.bundle)


@pytest.mark.parametrize("before", [False, True], ids=["new folder", "after a finished run"])
@pytest.mark.parametrize("end", [KeyboardInterrupt(), OSError("the disk is full")], ids=["interrupted", "failed"])
def test_a_model_of_copies_of_test_rows_is_never_published(tmp_path, tiny_cache, monkeypatch, before, end):
    """Only the end of a run changes RUN/bundle: if the repeat does not end, it holds what an earlier finished run left."""
    task, store, out = make_task(tmp_path / "data", learners=["tfidf"]), ModelStore(tiny_cache), tmp_path / "out"
    if before:
        run(Task.of(task.config.changed(["synthesis.drafts=0"])), out, store=store)
    left = folder_digest(out / "bundle") if before else None
    rows = list(read_jsonl(task.test))
    monkeypatch.setattr(build, "make_generator", lambda *_: Cheat(rows))

    def begin_once(*arguments, forget=(), **options):
        if forget:
            raise end
        return begin(*arguments, forget=forget, **options)

    monkeypatch.setattr(flow, "begin", begin_once)
    with pytest.raises(type(end)):
        run(task, out, store=store)
    assert (out / "leaked.json").is_file()
    assert (folder_digest(out / "bundle") if before else (out / "bundle").exists() or None) == left
    assert not (out / "report.json").exists()


def heldout(right):
    """Logits of one repeat from a table candidate -> rows answered rightly."""
    n = len(next(iter(right.values())))
    logits = {c: np.array([[[2.0, 0.0] if ok else [0.0, 2.0] for ok in rows]]) for c, rows in right.items()}
    return held_of(np.zeros(n, int), logits)


REAL, HELPED, POOR = Candidate("contrastive", False), Candidate("contrastive", True), Candidate("tfidf", False)


@pytest.mark.parametrize(
    ("real", "helped", "shipped", "chance"),
    [
        ([0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1], HELPED, 1 / 32),
        ([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1], REAL, 1 / 16),  # four rows more are what chance gives once in 16 runs
        ([1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], REAL, 1.0),
        ([1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], REAL, 11 / 16),  # no gain: stay with real rows
    ],
)
def test_the_gate_ships_what_is_better_on_held_out_rows(real, helped, shipped, chance):
    decision = decide(heldout({REAL: real, HELPED: helped}), [REAL, HELPED])
    assert decision.shipped == shipped
    assert decision.chance == pytest.approx(chance)
    assert decision.gain is not None and decision.gain.n == 6


def test_near_copies_of_one_row_are_one_piece_of_evidence():
    held = heldout({REAL: [0] * 6, HELPED: [1] * 6})
    assert decide(held, [REAL, HELPED]).shipped == HELPED
    assert decide(replace(held, groups=np.array([0, 0, 1, 1, 2, 2])), [REAL, HELPED]).shipped == REAL


def test_looking_at_several_sets_of_drafts_is_paid_for():
    held = heldout({REAL: [0] * 6, HELPED: [1] * 6})
    assert decide(held, [REAL, HELPED], looks=3).shipped == HELPED  # 3 / 64
    assert decide(held, [REAL, HELPED], looks=4).shipped == REAL


def test_a_better_learner_is_no_merit_of_the_drafts():
    """TF-IDF beats the preferred learner, by less than it must, with drafts and without: drafts bring nothing."""
    better, worse = [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]
    mixed = Candidate("tfidf", True)
    held = heldout({REAL: worse, HELPED: worse, POOR: better, mixed: better})
    decision = decide(held, [REAL, HELPED, POOR, mixed])
    assert not decision.shipped.drafts
    assert decision.gain.value == 0


def test_a_less_preferred_learner_must_win_by_more_than_the_error():
    held = heldout({REAL: [1, 1, 1, 0, 0, 0], POOR: [1, 1, 0, 1, 0, 1]})
    assert decide(held, [POOR, REAL]).real == REAL
    held = heldout({REAL: [1, 0, 0, 0, 0, 0], POOR: [1, 1, 1, 1, 1, 1]})
    assert decide(held, [POOR, REAL]).real == POOR


def test_a_fold_loses_every_draft_that_saw_one_of_its_rows():
    drafts = [
        Draft(Example(f"d{i}", "t", "a", Provenance("p", shown, 0, "echo")))
        for i, shown in enumerate([("r1",), ("r2",), ("r2", "r3"), ()])
    ]
    drafts.append(Draft(Example("d4", "t", "a", Provenance("p", ("r1",), 0, "echo", rewarded_by=("r1", "r2")))))
    assert [d.example.id for d in safe_for(drafts, frozenset({"r2"}))] == ["d0", "d3"]
    assert all(Draft.from_json(json.loads(json.dumps(d.to_json()))) == d for d in drafts)


SCRIPT = """
import sys
from pathlib import Path
import torch
from refsynth.core.task import Task
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
torch.set_num_threads(1)
run(Task.load(sys.argv[1]), Path(sys.argv[2]), store=ModelStore(Path(sys.argv[3])))
"""


def kill_and_resume(tmp_path, tiny_cache, kills, learners):
    """Kill a run at random points until it has been killed so often, let it end, and compare it with one left alone."""
    task = make_task(tmp_path / "data", learners=learners)
    tree = task.config.model_dump(mode="json")
    (tmp_path / "task.yaml").write_text(json.dumps(tree), "utf-8")

    def start(out):
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "task.yaml"), str(out), str(tiny_cache)]
        )

    began = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    whole = time.monotonic() - began
    rng, done = random.Random(0), 0
    while done < kills:
        out = tmp_path / f"killed-{done}"
        process = start(out)
        time.sleep(rng.uniform(0.3, 1.0) * whole)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
        assert start(out).wait() == 0
        assert folder_digest(out / "bundle") == folder_digest(tmp_path / "whole" / "bundle")
        assert folder_digest(out / "steps") == folder_digest(tmp_path / "whole" / "steps")


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_hashes(tmp_path, tiny_cache):
    kill_and_resume(tmp_path, tiny_cache, 2, ["tfidf", "frozen"])


@pytest.mark.slow
def test_twenty_kills_at_random_points_all_resume_to_the_same_hashes(tmp_path, tiny_cache):
    kill_and_resume(tmp_path, tiny_cache, 20, ["frozen", "contrastive"])


def test_prompts_ask_for_topics_of_the_pool(tmp_path, tiny_cache):
    make_run(tmp_path, tiny_cache, "one", pool=40, synthesis={"drafts": 32, "ways": ["topics"]}, gate={"folds": 2})
    prompts = [record["text"] for record in read_jsonl(next((tmp_path / "out").rglob("prompts.jsonl")))]
    assert any(" texts about " in prompt for prompt in prompts)


def test_topics_without_a_pool_are_refused(tmp_path, tiny_cache):
    with pytest.raises(ConfigError, match=r"data\.pool"):
        make_run(tmp_path, tiny_cache, "one", synthesis={"drafts": 32, "ways": ["topics"]})


@pytest.mark.parametrize(
    ("named", "found", "parts"),
    [
        ("auto", "en", ()),
        ("auto", "de", ("'de'", "multilingual", "writes English only")),
        ("auto", "xx", ("no language", "multilingual", "language: en")),
        ("de", "de", ()),
    ],
)
def test_an_encoder_that_nobody_asked_for_is_told(tmp_path, named, found, parts):
    task = make_task(tmp_path, language=named, reference="embedded")
    notes = " ".join(language_notes(task, found))
    assert all(part in notes for part in parts) and bool(notes) is bool(parts)
