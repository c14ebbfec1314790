"""A kind of task that another package brings: a whole run with it, and a bundle that answers without torch."""

import json
import subprocess
import sys

import pytest

from refsynth.core.errors import ConfigError
from refsynth.core.kinds import TASK_KINDS
from refsynth.core.registry import code_outside
from refsynth.core.settings import settings_of
from refsynth.kinds import KINDS
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support.runs import make_task

RATING = """
import numpy as np
from refsynth.core.kinds import KindSpec
from refsynth.kinds.labels import OneLabel


class Rating(OneLabel):
    \"\"\"Labels are in an order, and the answer is the median of their probabilities.\"\"\"

    def decide(self, probabilities, thresholds=None):
        shares = np.asarray(probabilities, float)
        return (shares.cumsum(1) >= 0.5 * shares.sum(1, keepdims=True)).argmax(1)


RATINGS = Rating()
SPEC = KindSpec("rating", "toy_kind:RATINGS", "one", ("tfidf",), "one grade for each text", "Grader of texts, of {k} grades")
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A package beside ours, installed as pip would leave it."""
    site = tmp_path / "site"
    info = site / "toy_kind-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "toy_kind.py").write_text(RATING, "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-kind\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text("[refsynth.kinds]\nrating = toy_kind:SPEC\n", "utf-8")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    monkeypatch.setattr(TASK_KINDS, "_found", None)
    return site


def test_a_kind_from_outside_runs_ships_and_is_read_back_without_torch(site, tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", task="rating", synthesis={"drafts": 0}, learners=["tfidf", "frozen"])
    assert settings_of(task.config)["task"] == ["rating", code_outside("toy_kind:RATINGS")]
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    assert "Grader of texts, of 2 grades" in (done.bundle / "README.md").read_text("utf-8")
    code = (
        "import sys, json, refsynth; model = refsynth.load(sys.argv[1]); "
        "said = model.answer(['late again', 'it is broken']); kind = type(model.manifest.answers).__name__; "
        "print(json.dumps([model.manifest.task, kind, said.answers.tolist(), 'torch' in sys.modules]))"
    )
    told = subprocess.run([sys.executable, "-c", code, str(done.bundle)], capture_output=True, text=True, check=True).stdout
    name, kind, answers, torch = json.loads(told)
    assert (name, kind, torch) == ("rating", "Rating", False) and set(answers) <= {0, 1}


def test_its_answers_are_its_own(site):
    assert KINDS["rating"].decide([[0.4, 0.3, 0.3]]).tolist() == [1]  # the median; OneLabel would say 0


def test_a_kind_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"task: found 'multilable'.*did you mean 'multilabel'"):
        make_task(tmp_path, task="multilable")
