"""One table over every learner of task.yaml: fitted in a step of a run, read from disk with the same answers; bad input."""

from functools import partial

import numpy as np
import pytest

from jobs import job_of
from refsynth.core.config import RunConfig
from refsynth.core.learners import LEARNERS
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Example
from refsynth.learning.candidates import Candidate
from refsynth.learning.context import make_context
from refsynth.learning.final import fit_final
from refsynth.learning.judge import fit_judge, select
from refsynth.learning.makers import make_learners
from refsynth.learning.rows import read_rows
from refsynth.models.reference import EchoGenerator
from test_pipeline import write_rows
from tiny_encoder import MAX_TOKENS

NAMES = tuple(LEARNERS)
ODD = ["", " ", "?" * 500, "全く別の", "\x00\ufffd", "a" * 5000]
MARKED = ["[Ann Lee](person) lives in [Oslo](place)", "we met [Bo](person) there", "[Rome](place) is far", "nobody was here"] * 3


def make_task(name, folder):
    if name == "crf":
        rows = [{"text": text} for text in MARKED]
        (folder / "train.jsonl").write_text("".join(f'{{"text": "{row["text"]}"}}\n' for row in rows), "utf-8")
        more = {"task": "tokens", "labels": ["person", "place"]}
    else:
        write_rows(folder / "train.jsonl", 6, 1)
        more = {"labels": {"late": "it has not come", "broken": "it is broken"}}
    learners = {name, *(("frozen", "tfidf") if LEARNERS[name].joins else ("frozen",) if name == "prompt" else ())}
    fast = {"training": {"epochs": 2, "batch_size": 4}, "ensemble": {"folds": 2, "seeds": 2}, "synthesis": {"drafts": 0}}
    data = {"train": str(folder / "train.jsonl")}
    return Task.of(RunConfig.parse({**more, **fast, "learners": sorted(learners), "data": data}))


@pytest.fixture(params=NAMES)
def made(request, tmp_path, tiny_folder, tiny_causal):
    """A learner's name, a run folder's rows, and a workshop."""
    task = make_task(request.param, tmp_path)
    folder = RunFolder(tmp_path / "run")
    rows = read_rows(task, folder, skip_bad=False)
    causal = tiny_causal if request.param == "causal_lora" else None
    make = partial(make_context, task, "en", tiny_folder, max_tokens=MAX_TOKENS, causal=causal, reference=EchoGenerator)
    return request.param, task, rows, folder, make


def test_what_a_step_keeps_says_what_was_fitted(made):
    name, task, rows, folder, make = made
    texts = [*(row.text for row in rows.examples[:6]), *ODD]
    fitted = {}

    context = make()
    learners = make_learners(context, task.config.learners)
    keep = learners[name].fit

    def fit(train, dev, *, seed):
        fitted[name] = keep(train, dev, seed=seed)
        return fitted[name]

    learners[name].fit = fit
    job = job_of(task, rows, folder, learners=learners, context=context)
    judge = fit_judge(job)
    final = fit_final(job, judge, select(job, judge, (), lambda judge, real, drafts: []), [Candidate(name, False)])
    said = fitted[name].logits(texts)
    assert len(said) == len(texts)
    again = final.predictors(make())[Candidate(name, False)].logits(texts)
    for one, other in zip(said, again, strict=True):  # of words: as many rows as a text has
        assert np.isfinite(one).all()
        np.testing.assert_allclose(other, one, atol=1e-4)


def test_a_label_that_is_none_is_refused(made):
    name, task, rows, _, make = made
    wrong = [*rows.examples, Example("row-99", "it was stolen", "0-2:stolen" if name == "crf" else "stolen")]
    with pytest.raises((KeyError, ValueError), match="stolen"):
        make_learners(make(), task.config.learners)[name].fit(wrong, (), seed=0)
