"""Reinforcement in a run: who judges, who is shown what, and that no fold is measured with drafts that it rewarded."""

import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, ExtraError
from refsynth.core.files import read_json, read_jsonl
from refsynth.core.hashes import derive_seed
from refsynth.core.types import Completion, Example, Prompt
from refsynth.data.split import fold_of
from refsynth.kinds import ONE_LABEL
from refsynth.learning.candidates import safe_for
from refsynth.learning.head import HEAD_STRENGTH, fit_head, softmax_strength
from refsynth.learning.rows import Rows
from refsynth.models.predict import LinearHead
from refsynth.models.reference import FolderGenerator
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from refsynth.pipeline.report import Paths
from refsynth.pipeline.track import Tracked, points, track
from refsynth.synthesis.reinforcement.bandit import Bandit, search
from refsynth.synthesis.reinforcement.figures import Figures, Measured, PromptedCompletion
from refsynth.synthesis.reinforcement.policies import RewardCurve
from refsynth.synthesis.reinforcement.policy_task import Half, halves
from refsynth.synthesis.reinforcement.rewarder import Rewarder
from refsynth.synthesis.selection.influence import Points, gains
from tests.support.rewards import REINFORCE, by_length
from tests.support.runs import make_task

LABELS = ("late", "broken")


class ByWords:
    """Two features: how many words a text shares with each class."""

    def encode(self, texts):
        counts = [[text.count("parcel") + 0.1, text.count("crack") + 0.1] for text in texts]
        return np.array([np.array(row) / np.linalg.norm(row) for row in counts], np.float32)


def rows_of(n, *, folds):
    words = {"late": "my parcel number {} is not here yet", "broken": "there is a crack in article {} of mine"}
    examples = [Example(f"row-{i}", words[LABELS[i % 2]].format(i), LABELS[i % 2]) for i in range(n)]
    return Rows(tuple(examples), np.arange(n) // 2 % folds, "en", {}, ONE_LABEL, np.arange(n))


def judge_of(rows):
    return Rewarder(LABELS, ByWords(), rows.examples, rows.folds, "en", 60)


def answer(text, label, shown=()):
    return PromptedCompletion(Prompt("prompt", label, shown), Completion(text, finished=True))


def test_halves_share_the_folds_out():
    rows = rows_of(16, folds=4)
    parts = halves(rows)
    assert [set(part.folds) for part in parts] == [{0, 2}, {1, 3}]
    assert sorted(row.id for part in parts for row in part.rows) == sorted(row.id for row in rows.examples)
    assert all(part.can_reward for part in parts)
    assert not Half("first", rows.examples[:2], np.array([0, 1])).can_reward  # one label is left when a fold is out


def test_a_gain_is_that_on_the_folds_which_the_prompt_did_not_show():
    rows = rows_of(8, folds=2)
    text, shown = "a parcel that never came to us", rows.examples[0].id
    said = judge_of(rows)([answer(text, "late", (shown,))])

    def points(examples):
        texts = [example.text for example in examples]
        classes = np.array([LABELS.index(example.label) for example in examples])
        return Points(ByWords().encode(texts).astype(float), classes, np.ones(len(texts)))

    inside = [row for row, fold in zip(rows.examples, rows.folds, strict=True) if fold == 0]
    outside = [row for row, fold in zip(rows.examples, rows.folds, strict=True) if fold == 1]
    train = points(inside)  # the head of the fold that judges: fitted to the other
    head = fit_head(train.features, train.classes, 2, strength=HEAD_STRENGTH)
    assert isinstance(head, LinearHead)
    wanted = gains(head, train, points(outside), points([Example("x", text, "late")]), strength=softmax_strength(2))
    np.testing.assert_allclose(said.gains, wanted, rtol=1e-5)
    assert not said.faulty[0]


def test_what_is_worth_nothing_is_faulty_and_company_changes_no_gain():
    rows = rows_of(8, folds=2)
    good = answer("the parcel was lost on its way", "late")
    bad = [
        answer("", "late"),
        answer(rows.examples[0].text, "late"),  # a copy
        answer("the crack in the glass is long", "late"),  # another class
        answer("the parcel was lost on its way", "late"),  # said before
        answer("word " * 90, "late"),
    ]
    alone, together = judge_of(rows)([good]), judge_of(rows)([good, *bad])
    assert together.faulty.tolist() == [False] + [True] * 5
    np.testing.assert_allclose(together.gains[0], alone.gains[0], rtol=1e-6)


def test_of_a_label_without_rows_nobody_says_that_a_text_is_faulty():
    rows = rows_of(8, folds=2)
    said = Rewarder((*LABELS, "lost"), ByWords(), rows.examples, rows.folds, "en", 60)(
        [answer("nobody knows where it is", "lost")]
    )
    assert not said.faulty[0] and np.isnan(said.gains[0])


def test_each_half_has_rows_of_labels_that_have_two():
    names = [f"label-{k}" for k in range(10)]
    examples = [Example(f"row-{i}", f"text number {i}", names[i % 10]) for i in range(20)]
    folds = fold_of(examples, folds=4, seed=0, groups=np.arange(20))
    for part in halves(Rows(tuple(examples), folds, "en", {}, ONE_LABEL, np.arange(20))):
        assert {row.label for row in part.rows} == set(names)


def test_nothing_sound_is_no_error():
    said = judge_of(rows_of(8, folds=2))([answer("", "late"), answer("", "broken")])
    assert said.faulty.all() and said.gain == 0.0 and said.distinct_2 == 0.0


def pulls(best, *, at_random=False, turns=12, folder):
    """Have a bandit of 6 arms write; arm `best` is worth more than the others."""
    bandit, drawn, now = Bandit(6), [], []

    def write(arms, turn):
        drawn.append(arms)
        now[:] = [turn]
        return [[answer(str(int(arm)), "late") for _ in range(4)] for arm in arms]

    def measure(written):
        rng = np.random.default_rng(now)
        value = np.array([1.5 * (one.completion.text == str(best)) for one in written])
        return Measured(value + rng.normal(0, 0.5, len(written)), np.zeros(len(written), bool), 1.0)

    figures = list(search(bandit, write, measure, folder, turns=turns, prompts=4, seed=1, at_random=at_random))
    return bandit, np.concatenate(drawn) if drawn else np.zeros(0), figures


@pytest.mark.parametrize("best", [0, 3, 5])
def test_the_bandit_finds_the_arm_that_pays_and_pulls_it_more(best, tmp_path):
    bandit, drawn, figures = pulls(best, folder=tmp_path / "a")
    assert bandit.best(1) == [best]
    assert np.mean(drawn[24:] == best) > 0.5
    assert figures[-1].reward > figures[0].reward
    _, blind, _ = pulls(best, at_random=True, folder=tmp_path / "b")
    assert np.mean(blind[24:] == best) < 0.5
    assert list(blind[:4]) != list(blind[4:8])  # each turn draws for itself


@pytest.mark.parametrize("given", [{0: 4, 1: 3, 2: 1}, {0: 1, 1: 0, 2: 2}, {0: 0, 1: 0, 2: 0}])
def test_each_text_counts_for_the_arm_that_wrote_it_although_a_chat_model_gives_fewer(given, tmp_path):
    bandit = Bandit(3)
    write = lambda arms, turn: [[answer(str(int(arm)), "late") for _ in range(given[int(arm)])] for arm in arms]  # noqa: E731

    def measure(written):
        value = np.array([float(one.completion.text) for one in written])
        return Measured(value, np.zeros(len(written), bool), 1.0)

    (figures,) = search(bandit, write, measure, tmp_path, turns=1, prompts=12, seed=1, at_random=True)
    arms = Bandit(3).draw(12, seed=derive_seed(1, "arms", 0), at_random=True)
    sums, counts = bandit.state()
    expected = [given[arm] * int((arms == arm).sum()) for arm in range(3)]
    assert counts == expected and figures.texts == sum(expected)
    assert {*arms} == {0, 1, 2}
    assert np.isfinite(figures.reward)
    means = [total / count for total, count in zip(sums, counts, strict=True) if count]
    assert means == sorted(means)  # arm 2 writes the best, arm 0 the worst


def test_a_turn_without_any_text_is_judged():
    judgment = judge_of(rows_of(8, folds=2))([])
    assert judgment.gain == 0.0 and judgment.faulty.dtype == bool and len(judgment.gains) == 0


def test_a_search_that_was_stopped_goes_on_to_the_same_end(tmp_path):
    whole, tried, figures = pulls(2, folder=tmp_path / "whole", turns=4)
    _, first, _ = pulls(2, folder=tmp_path / "parts", turns=2)
    again, then, resumed = pulls(2, folder=tmp_path / "parts", turns=4)
    assert [one.reward for one in resumed] == [one.reward for one in figures]
    assert [*first, *then] == list(tried)
    assert again.state() == whole.state()


def test_only_arms_that_were_tried_are_named():
    bandit = Bandit(5)
    bandit.learn(np.array([1, 1, 3]), np.array([-1.0, -1.0, -3.0]))
    assert bandit.best(4) == [1, 3]


def check_owners(finished):
    """No draft was shown rows that did not reward its author; for every fold there are drafts that owe it nothing."""
    rows = finished.learned.rows
    parts = [frozenset(row.id for row in part.rows) for part in halves(rows)]
    drafts = finished.learned.screened
    origins = [draft.example.provenance for draft in drafts]
    assert {frozenset(origin.rewarded_by) for origin in origins} == set(parts)
    assert all(set(origin.shown) <= set(origin.rewarded_by) for origin in origins)
    for fold in np.unique(rows.folds):
        held = frozenset(row.id for row, each in zip(rows.examples, rows.folds, strict=True) if each == fold)
        safe = safe_for(drafts, held)
        assert 0 < len(safe) < len(drafts)


def test_a_run_with_a_bandit(tmp_path, tiny_cache):
    task = make_task(
        tmp_path / "data", reinforce={"iterations": 3, "policy": "bandit", "prompts": 4, "group_size": 4}, **REINFORCE
    )
    result = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    check_owners(result.evidence)
    assert [len(curve.turns) for curve in result.evidence.learned.curves] == [3, 3]
    assert [policy.half for policy in result.report.drafts.reinforced] == ["first", "second"]
    assert "Reinforcement, turn by turn" in result.paths.html.read_text("utf-8")
    assert not list((tmp_path / "out" / "reinforce").glob("*"))
    run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    steps = [event["name"] for event in list(read_jsonl(tmp_path / "out" / "events.jsonl")) if event["event"] == "step"]
    assert len(steps) == len(set(steps))  # nothing was made twice


@pytest.mark.slow
def test_a_run_with_an_adapter(tmp_path, tiny_cache, tiny_causal, monkeypatch):
    monkeypatch.setattr(Rewarder, "__call__", by_length)
    task = make_task(
        tmp_path / "data",
        reference={"folder": str(tiny_causal)},
        reinforce={"iterations": 2, "prompts": 2, "group_size": 2, "learning_rate": 1e-2},
        gate={"folds": 4},
        synthesis={"drafts": 16, "per_prompt": 4, "max_tokens": 16, "shots": 1},
    )
    result = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    curves = result.evidence.learned.curves
    assert [len(curve.turns) for curve in curves] == [2, 2]
    assert all(turn.kl is not None and turn.kl >= 0 for curve in curves for turn in curve.turns)
    reference = result.evidence.learned.written.reference.split(" + ")
    plain = FolderGenerator(tiny_causal).name
    assert len({*reference, plain}) == 3  # two policies, neither of them the reference
    assert not list((tmp_path / "out" / "reinforce").glob("*"))
    figures = read_json(tmp_path / "out" / "steps" / "policy-first" / "figures.json")
    assert len(figures) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reinforce": {"iterations": 1, "policy": "bandit"}, "gate": {"folds": 3}}, "gate.folds of at least 4"),
        ({"reinforce": {"iterations": 1}, "reference": "echo"}, "use bandit"),
        ({"reinforce": {"iterations": 1}, "reference": {"endpoint": "http://127.0.0.1:1", "model": "m"}}, "use bandit"),
        (
            {
                "reinforce": {"iterations": 1, "policy": "bandit"},
                "reference": {"endpoint": "http://127.0.0.1:1", "model": "m", "max_requests": 9},
            },
            "max_requests",
        ),
        ({"reinforce": {"iterations": 1, "group_size": 1}}, "group_size"),
        ({"reinforce": {"turn": 1}}, "iterations"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        RunConfig.parse({"labels": ["a", "b"], **changes})


@pytest.mark.slow
def test_too_few_rows_leave_the_reference_as_it_is(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", reinforce={"iterations": 1, "policy": "bandit"}, **REINFORCE)
    lines = task.train.read_text("utf-8").splitlines(keepends=True)
    task.train.write_text("".join(lines[:4]), "utf-8")
    finished = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    assert finished.learned.curves == ()
    assert {draft.provenance.rewarded_by for draft in finished.learned.written.drafts} == {()}


@pytest.fixture
def story(tmp_path):
    turns = tuple(Figures(turn, 0.5 * turn, 0.1, 0.0, 0.9, 8, 1.0, kl=0.25) for turn in range(3))
    curves = list(points(SimpleNamespace(curves=(RewardCurve("first", turns),), rounds=())))
    paths = Paths(*(tmp_path / "run" / f"report.{end}" for end in ("html", "md", "json")))
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    for path in (*paths, tmp_path / "run" / "bundle" / "weights.bin"):
        path.write_text(f"this is {path.name}")
    config = {"labels.a b: c": "one | two", "seed": 3, "learners": '["tfidf"]'}
    return Tracked(config, {"results/shipped/accuracy": 0.75}, curves, paths, tmp_path / "run" / "bundle")


@pytest.mark.slow
def test_trackers_get_configuration_results_curves_report_and_bundle(story, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "track"
    track(story, ("tensorboard", "wandb", "mlflow"), out)
    track(story, ("tensorboard", "mlflow"), out)
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("reinforce/first half/reward")] == [0.0, 0.5, 1.0]
    assert [event.value for event in events.Scalars("results/shipped/accuracy")] == [0.75]
    told = str([events.Tensors(f"{name}/text_summary") for name in ("configuration", "report", "bundle")])
    assert "one / two" in told and "this is report.md" in told
    with sqlite3.connect(out / "mlflow" / "mlflow.db") as database:
        query = "select step, value from metrics where key = ? order by step"
        assert database.execute(query, ["reinforce/first half/kl"]).fetchall() == [
            (step, 0.25) for step in (0, 0, 1, 1, 2, 2)
        ]  # two runs
        assert database.execute(query, ["results/shipped/accuracy"]).fetchall() == [(0, 0.75)] * 2
        assert ("seed", "3") in database.execute("select key, value from params").fetchall()
    kept = [path.name for path in (out / "mlflow" / "artifacts").rglob("*") if path.is_file()]
    assert sorted(kept) == sorted(["report.html", "report.md", "report.json", "weights.bin"] * 2)
    (record,) = (out / "wandb").rglob("*.wandb")
    told = record.read_bytes()
    assert all(each in told for each in (b"reinforce/first half/reward", b"results/shipped/accuracy", b"one | two"))
    saved = {path.name for path in (out / "wandb").rglob("files/**/*")}
    assert {"report.html", "report.json", "report.md", "weights.bin"} <= saved
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "track"]  # nothing lies beside them


def test_a_run_tells_its_trackers_what_its_report_says(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", track=["mlflow"], learners=["tfidf"])
    result = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    with sqlite3.connect(tmp_path / "out" / "track" / "mlflow" / "mlflow.db") as database:
        figures = dict(database.execute("select key, value from metrics").fetchall())
        config = dict(database.execute("select key, value from params").fetchall())
    shipped = result.report.results.shipped
    assert figures["results/shipped/accuracy"] == shipped.accuracy.value
    assert figures["results/shipped/accuracy low"] == shipped.accuracy.low
    assert config["synthesis.drafts"] == "60" and config["labels.late"] == "the parcel is late"
    assert list((tmp_path / "out" / "track").rglob("bundle/manifest.json"))


def test_a_tracker_that_is_not_installed_stops_the_run_at_its_start(tmp_path, tiny_cache, monkeypatch):
    monkeypatch.setattr("refsynth.core.extras.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExtraError, match=r"refsynth\[track\]"):
        run(make_task(tmp_path / "data", track=["wandb"]), tmp_path / "out", store=ModelStore(tiny_cache))
