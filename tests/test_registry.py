"""A component that another package brings: found by an entry point, or registered, and used like one of ours."""

import json
import subprocess
import sys

import pytest

from refsynth.core.errors import ConfigError
from refsynth.core.learners import LEARNERS, LearnerSpec
from refsynth.core.registry import Registry
from refsynth.core.run import file_digest
from refsynth.learning.context import learners_key
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from test_pipeline import make_task

TOY = """
import numpy as np
from refsynth.core.learners import LearnerSpec
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary


class Counting:
    \"\"\"Counts in how many rows of each label a word is.\"\"\"

    def __init__(self, labels):
        self.labels = labels

    def fit(self, train, dev, *, seed):
        words = sorted({word for row in train for word in row.text.lower().split() if word.isalpha()})
        counts = np.zeros((len(words), len(self.labels)))
        for row in train:
            for word in set(row.text.lower().split()):
                if word in words:
                    counts[words.index(word), self.labels.index(row.label)] += 1
        vectors = TfidfVectors([Vocabulary("word", 1, 1, tuple(words), np.ones(len(words)))])
        return TfidfPredictor(self.labels, vectors, LinearHead(counts, np.zeros(len(self.labels))))


def make(context):
    return Counting(context.labels)


SPEC = LearnerSpec("counting", "counts of words", "toy_learner:make", "counts of words", "TF-IDF", reads="text", small=True)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package beside ours, installed as pip would leave it."""
    site = tmp_path / "site"
    info = site / "toy_learner-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "toy_learner.py").write_text(TOY, "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-learner\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text("[refsynth.learners]\ncounting = toy_learner:SPEC\n", "utf-8")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(LEARNERS, "_found", None)
    return site


def test_a_learner_from_outside_runs_ships_and_is_read_back_without_torch(toy, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", learners=["counting"])
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache)).finished
    assert str(done.learned.decision.shipped).startswith("counting")
    assert learners_key(task.config, "en")["learners.outside"] == {"counting": file_digest(toy / "toy_learner.py")}
    assert "counts of words" in (tmp_path / "out" / "report.md").read_text("utf-8")
    code = (
        "import sys, json, refsynth; said = refsynth.load(sys.argv[1]).predict(['late again']); "
        "print(json.dumps([said[0].label, 'torch' in sys.modules]))"
    )
    told = subprocess.run([sys.executable, "-c", code, str(done.bundle)], capture_output=True, text=True, check=True).stdout
    label, torch = json.loads(told)
    assert label in task.labels and not torch


def test_one_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"learners\.0: found 'countin'.*did you mean"):
        make_task(tmp_path, learners=["countin"])


def test_a_registry_keeps_its_order_and_refuses_a_name_twice():
    first, second = (LearnerSpec(name, name, "json:loads", "") for name in ("b", "a"))
    registry = Registry("nobody.brings", [first])
    registry.register(second)
    assert list(registry) == ["b", "a"] and registry["a"] is second and len(registry) == 2
    with pytest.raises(ConfigError, match="there already"):
        registry.register(LearnerSpec("a", "again", "json:loads", ""))
    registry.remove("a")
    assert "a" not in registry
    with pytest.raises(ValueError, match="known are b"):
        registry.known("a")
