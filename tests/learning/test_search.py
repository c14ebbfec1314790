"""The search of hyper-parameters: it finds what is better, in time, once, and on nothing but the rows that it is given."""

import datetime
import json
from typing import ClassVar

import numpy as np
import pytest

from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError
from refsynth.core.task import Task
from refsynth.core.types import Example, Provenance
from refsynth.learning import search
from refsynth.learning.context import make_context
from refsynth.learning.makers import make_learner
from refsynth.learning.search import Range, SearchedLearner
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support.runs import make_task
from tests.support.tiny_encoder import MAX_TOKENS

LABELS = ("late", "broken")
ROWS = [Example(f"row-{i}", f"{word * 5} text {i} {word * 9}", LABELS[i % 2]) for i, word in enumerate("abcdefghijklmnop")]
SPACE = {"rate": Range(0.01, 1.0, log=True), "batch": Range(among=(8, 16))}
USUAL = {"rate": 0.9, "batch": 8}


class Best:
    """A learner that is right by as much as its rate is near to 0.1."""

    asked: ClassVar[list] = []

    def __init__(self, settings):
        self.settings = settings

    def fit(self, train, dev, *, seed):
        Best.asked.append((dict(self.settings), {row.id for row in train}, {row.id for row in dev}))
        return Says(self.settings)


class Says:
    labels = LABELS

    def __init__(self, settings):
        self.settings = settings

    def logits(self, texts):
        sure = 4 - abs(np.log10(self.settings["rate"] / 0.1))
        right = [int(text.split()[2]) % 2 for text in texts]
        return sure * np.eye(2)[right]


def searched(folder, **changes):
    Best.asked = []
    options = {"labels": LABELS, "minutes": 1, "trials": 12, "folder": folder, "about": "a learner"} | changes
    return SearchedLearner("best", Best, SPACE, USUAL, **options)


def test_it_finds_the_better_settings_and_fits_with_them(tmp_path):
    learner = searched(tmp_path)
    predictor = learner.fit(ROWS, (), seed=0)
    found = learner.last
    assert found.trials == 12 and found.best < found.usual
    assert abs(np.log10(predictor.settings["rate"] / 0.1)) < abs(np.log10(USUAL["rate"] / 0.1)) / 2
    assert predictor.settings == found.settings and found.settings["batch"] in (8, 16)
    assert Best.asked[0][0] == USUAL  # what the task says comes first
    assert "12 trials" in found.line()


def test_a_trial_answers_rows_that_its_models_have_not_seen(tmp_path):
    draft = Example("draft-1", "a draft", "late", Provenance("p", ("row-0",), 0, "r"))
    dev = [Example("dev-1", "x text 0", "late")]
    searched(tmp_path, trials=1).fit([*ROWS, draft], dev, seed=0)
    *folds, final = Best.asked
    rows = {row.id for row in ROWS}
    assert len(folds) == search.FOLDS
    held = [rows - told for _, told, _ in folds]
    assert set.union(*held) == rows and sum(map(len, held)) == len(rows)
    assert not any("draft-1" in told for _, told, _ in folds)
    assert final[1] == rows | {"draft-1"}
    assert all(told == {"dev-1"} for _, _, told in Best.asked)


def test_the_same_rows_are_searched_on_once_and_drafts_make_no_other_search(tmp_path):
    draft = Example("draft-1", "a draft", "late", Provenance("p", (), 0, "r"))
    first = searched(tmp_path)
    first.fit(ROWS, (), seed=0)
    tried = len(Best.asked)
    again = SearchedLearner("best", Best, SPACE, USUAL, labels=LABELS, minutes=1, trials=12, folder=tmp_path, about="a learner")
    again.fit([*ROWS, draft], (), seed=0)
    assert len(Best.asked) == tried + 1
    assert again.last == first.last
    again.fit(ROWS[:-1], (), seed=0)
    assert len(Best.asked) > tried + 2
    other = searched(tmp_path, about="a learner that averages its weights")
    other.fit(ROWS, (), seed=0)
    assert len(Best.asked) == tried  # anew, as many trials


def test_a_killed_search_goes_on_with_its_trials(tmp_path):
    learner = searched(tmp_path)
    plain, count = Best.fit, []

    def dies(self, train, dev, *, seed):
        count.append(1)
        if len(count) > 5 * search.FOLDS:
            raise KeyboardInterrupt
        return plain(self, train, dev, seed=seed)

    Best.fit = dies
    try:
        with pytest.raises(KeyboardInterrupt):
            learner.fit(ROWS, (), seed=0)
    finally:
        Best.fit = plain
    assert list(tmp_path.glob("*.journal"))
    Best.asked = []
    learner.fit(ROWS, (), seed=0)
    assert learner.last.trials == 12
    assert len(Best.asked) == 7 * search.FOLDS + 1
    assert not list(tmp_path.glob("*.journal"))


def test_no_trial_begins_when_time_is_up(tmp_path):
    learner = searched(tmp_path, minutes=1e-9, trials=1000)
    started = datetime.datetime.now(datetime.UTC)
    learner.fit(ROWS, (), seed=0)
    assert learner.last.trials == 1 and learner.last.settings == USUAL
    assert datetime.datetime.now(datetime.UTC) - started < datetime.timedelta(minutes=1)


def test_rows_that_are_all_alike_are_not_searched_on(tmp_path):
    alike = [Example(f"row-{i}", "the same text 0 again", "late") for i in range(20)]
    learner = searched(tmp_path)
    assert learner.fit(alike, (), seed=0).settings == USUAL
    assert learner.last is None


def test_too_few_rows_are_not_searched_on(tmp_path):
    learner = searched(tmp_path)
    assert learner.fit(ROWS[:5], (), seed=0).settings == USUAL
    assert learner.last is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("known", [0, search.LEAST_ROWS - 2])
def test_rows_of_labels_that_no_other_row_has_are_not_searched_on(tmp_path, known):
    """Every trial would have the same loss."""
    alone = [Example(f"alone-{word}", f"{word * 9} text 0 {word * 4}", f"only {word}") for word in "qrstuvwxyz01234"]
    labels = (*LABELS, *(row.label for row in alone))
    learner = searched(tmp_path, labels=labels)
    assert learner.fit([*ROWS[:known], *alone], (), seed=0).settings == USUAL
    assert learner.last is None and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_searches_in_each_fold_and_tells_what_it_found(tmp_path, tiny_cache):
    task = make_task(
        tmp_path / "data",
        learners=["tfidf", "bitfit"],
        training={"epochs": 1},
        search={"minutes": 0.05, "trials": 2},
        synthesis={"drafts": 0},
    )
    rows = [
        {"text": f"{word * 4} {word * 7} number", "label": LABELS[i % 2]} for i, word in enumerate("abcdefghijklmnopqrstuvwx")
    ]
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    (found,) = done.evidence.learned.final.found
    assert found.learner == "bitfit" and 1 <= found.trials <= 2
    files = list((tmp_path / "out" / "search").glob("bitfit-*.json"))
    assert len(files) == 3 + 1  # each fold, and all rows
    assert done.report.lineage.found == (found.line(),)
    assert "bitfit" in done.paths.markdown.read_text("utf-8")
    assert {json.loads(path.read_bytes())["learner"] for path in files} == {"bitfit"}


def test_the_minutes_of_a_run_are_shared_out(tiny_folder, tmp_path):
    tree = {"labels": list(LABELS), "learners": ["lora", "finetune", "tfidf"], "search": {"minutes": 30}, "gate": {"folds": 4}}
    context = make_context(Task.of(RunConfig.parse(tree)), "en", tiny_folder, max_tokens=MAX_TOKENS, checkpoints=tmp_path / "c")
    assert context.search.minutes == pytest.approx(30 / (2 * 5))
    assert isinstance(make_learner("lora", context), SearchedLearner)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"search": {"minutes": 5}}, "search tunes learners that are fine-tuned"),
        ({"search": {"minuets": 5}}, "did you mean 'minutes'"),
        ({"search": {"minutes": 5}, "learners": ["lora", "tfidf", "stacking"]}, "take stacking out"),
    ],
)
def test_what_cannot_be_searched_is_refused(tree, said):
    with pytest.raises(ConfigError, match=said):
        RunConfig.parse({"labels": ["a", "b"], **tree})
