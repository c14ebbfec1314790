"""Self-training: what is chosen from a pool, that no held-out row has a part in it, and a run with a pool from end to end."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.errors import DataError
from refsynth.core.files import read_jsonl
from refsynth.core.hashes import folder_digest
from refsynth.core.run import RunFolder
from refsynth.core.types import Draft, Example
from refsynth.evaluation.trace import trace_row
from refsynth.kinds.metrics import softmax
from refsynth.learning.candidates import safe_for
from refsynth.learning.gate import hold_out
from refsynth.learning.rows import read_rows
from refsynth.learning.selftrain import CLASS_MARGIN, SelfTrainer, UnlabeledText, balanced, confidence, from_pool
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support.jobs import job_of
from tests.support.runs import make_task, write_rows

LABELS = ("late", "broken")


class Fixed:
    """A predictor that says what it was told, by text."""

    labels = LABELS

    def __init__(self, said):
        self.said = said

    def logits(self, texts):
        return np.array([self.said[text] for text in texts], float)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=40), st.integers(1, 9))
def test_the_surest_of_each_class_are_taken_in_balance(rows, per_class):
    logits = np.array(rows)
    best = np.sort(softmax(logits), axis=1)
    sure, classes = confidence(logits), logits.argmax(1)
    np.testing.assert_allclose(sure, best[:, -1] / (best[:, -1] + best[:, -2]))
    places = balanced(classes, sure, 3, per_class=per_class, least=0.6)
    assert places == sorted(set(places))
    counts = [sum(classes[place] == k for place in places) for k in range(3)]
    able = [min(per_class, int(((classes == k) & (sure >= 0.6)).sum())) for k in range(3)]
    assert max(counts) <= max(1, CLASS_MARGIN * np.median(able)) and all(a <= b for a, b in zip(counts, able, strict=True))
    for place in set(range(len(rows))) - set(places):  # whoever is left out is not surer than who is taken
        mine = [sure[other] for other in places if classes[other] == classes[place]]
        assert sure[place] < 0.6 or not mine or sure[place] <= min(mine)


def test_what_it_takes_says_where_it_comes_from():
    pool = [UnlabeledText(f"pool-{i}", text) for i, text in enumerate(("sure", "unsure", "other"))]
    judge = Fixed({"sure": [3, 0], "unsure": [0.1, 0], "other": [0, 2]})
    real = [Example("row-1", "x", "late"), Example("row-2", "y", "broken")]
    taken = SelfTrainer(LABELS, pool).label(judge, real)
    assert [(d.example.id, d.example.label, d.dropped) for d in taken] == [("pool-0", "late", None), ("pool-2", "broken", None)]
    assert taken[0].example.targets == pytest.approx(softmax(np.array([[6.0, 0.0]]))[0])
    assert all(from_pool(d.example) and d.example.provenance.seen == {"row-1", "row-2"} for d in taken)
    assert safe_for(taken, frozenset({"row-2"})) == []
    assert [Draft.from_json(json.loads(json.dumps(d.to_json()))) for d in taken] == taken
    assert SelfTrainer(LABELS, ()).label(judge, real) == []


class Spy:
    """A learner that keeps what it was given, and says the class of most words of a text that it has seen."""

    def __init__(self):
        self.seen = []

    def fit(self, train, dev, *, seed):
        self.seen.append(list(train))
        words = {}
        for example in train:
            for word in example.text.split()[2:]:
                words.setdefault(word, [0, 0])[LABELS.index(example.label)] += 1
        told = {word: np.array(counts) for word, counts in words.items()}

        class Said:
            labels = LABELS

            def logits(self, texts):
                return np.array([sum((told.get(word, np.zeros(2)) for word in text.split()), np.zeros(2)) for text in texts])

        return Said()


def test_no_label_of_the_pool_owes_anything_to_a_held_out_row(tmp_path):
    task = make_task(tmp_path, learners=["frozen"])
    write_rows(tmp_path / "pool.jsonl", 8, 3)
    folder = RunFolder(tmp_path / "run")
    rows = read_rows(task, folder, skip_bad=False)
    pool = [UnlabeledText(f"pool-{i}", row["text"]) for i, row in enumerate(read_jsonl(tmp_path / "pool.jsonl"))]
    spy = Spy()
    choose = SelfTrainer(LABELS, pool, least=0.6).joined(lambda judge, real, drafts: list(drafts))
    hold_out(job_of(task, rows, folder, learners={"frozen": spy}), [], choose)
    assert len(spy.seen) == 2 * 3  # each fold without and with the pool
    for plain, mixed in zip(spy.seen[::2], spy.seen[1::2], strict=True):
        taken = [example for example in mixed if from_pool(example)]
        assert taken and mixed[: len(plain)] == plain
        assert {row for example in taken for row in example.provenance.seen} == {example.id for example in plain}


@pytest.fixture(scope="module")
def with_pool(tmp_path_factory, tiny_cache):
    where = tmp_path_factory.mktemp("pool")
    task = make_task(where)
    lines = (where / "test.jsonl").read_text().splitlines()[:2] + (where / "train.jsonl").read_text().splitlines()[:2]
    write_rows(where / "pool.jsonl", 8, 3)
    texts = [json.dumps({"text": json.loads(line)["text"]}) + "\n" for line in lines]
    with (where / "pool.jsonl").open("a") as stream:
        stream.writelines(texts)
    data = task.config.data.model_dump(mode="json") | {"pool": str(where / "pool.jsonl")}
    task = make_task(where, data=data, learners=["tfidf"], selftrain={"confidence": 0.5})
    return where, task, run(task, where / "run", store=ModelStore(tiny_cache))


def test_a_run_takes_texts_of_the_pool_and_says_so(with_pool):
    where, _, result = with_pool
    final = result.evidence.learned.selected
    taken = [draft.example for draft in final.from_pool]
    assert taken and all(len(example.provenance.shown) == 12 for example in taken)
    forbidden = {
        json.loads(line)["text"] for file in ("train", "test") for line in (where / f"{file}.jsonl").read_text().splitlines()
    }
    assert not forbidden & {example.text for example in taken}
    (pool,) = [file for file in result.report.data.files if file.role == "pool"]
    assert (pool.rows, pool.used) == (20, len(taken))
    assert result.report.drafts.kept + sum(result.report.drafts.dropped.values()) == result.report.drafts.asked
    story = trace_row(where / "run", taken[0].id)
    assert story["kind"].startswith("text of the pool") and "row-1" in story["provenance"]


def test_running_it_again_makes_nothing_again(with_pool, tiny_cache):
    where, task, _ = with_pool
    before = folder_digest(where / "run" / "steps")
    run(task, where / "run", store=ModelStore(tiny_cache))
    assert folder_digest(where / "run" / "steps") == before


def test_self_training_that_is_turned_off_leaves_the_pool_unread(with_pool, tiny_cache, tmp_path):
    _, task, _ = with_pool
    data = task.config.data.model_dump(mode="json")
    off = make_task(task.train.parent, data=data, learners=["tfidf"], selftrain={"per_class": 0}, synthesis={"drafts": 0})
    finished = run(off, tmp_path / "off", store=ModelStore(tiny_cache)).evidence
    assert finished.learned.selected.from_pool == () and not (tmp_path / "off" / "steps" / "pool").exists()


def test_a_pool_that_cannot_be_read_is_told(with_pool, tiny_cache, tmp_path):
    _, task, _ = with_pool
    (tmp_path / "pool.jsonl").write_text('{"message": "where is it"}\n' * 3)
    data = task.config.data.model_dump(mode="json") | {"pool": str(tmp_path / "pool.jsonl")}
    wrong = make_task(task.train.parent, data=data, learners=["tfidf"])
    with pytest.raises(DataError, match=r"none of 3 rows can be read; row 1: .*text"):
        run(wrong, tmp_path / "run", store=ModelStore(tiny_cache))


def test_a_pool_without_drafts_is_judged_by_the_gate_alone(with_pool, tiny_cache, tmp_path):
    _, task, _ = with_pool
    data = task.config.data.model_dump(mode="json")
    alone = make_task(task.train.parent, data=data, learners=["tfidf"], synthesis={"drafts": 0}, selftrain={"confidence": 0.5})
    learned = run(alone, tmp_path / "alone", store=ModelStore(tiny_cache)).evidence.learned
    assert learned.decision.gain is not None and learned.selected.from_pool
