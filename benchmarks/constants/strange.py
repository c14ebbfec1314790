"""Which score tells texts about none of the labels: the highest probability, or the likeness to the rows of the labels?

    python benchmarks/constants/strange.py DATA [seeds]

DATA holds the data sets of docs/bench.md and clinc150 with its out-of-scope files. A model of 8 rows a label is asked about 300
test rows, 300 out-of-scope questions and 20 automatic replies. The bar of each score is set on held-out training rows, as a run
does. A third way learns from 10 out-of-scope questions: they are one label more. Cells are appended to
benchmarks/results/constants-strange.jsonl.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.bench.cells import Cells
from refsynth.bench.sets import Sample, read_sample
from refsynth.core.config import RunConfig
from refsynth.core.protocols import Predictor
from refsynth.core.task import Task
from refsynth.core.types import Example, FloatArray
from refsynth.data.split import fold_of, parts
from refsynth.evaluation.strange import bar_of
from refsynth.kinds.metrics import softmax
from refsynth.learning.context import LEARNERS, make_context
from refsynth.models.catalog import encoder_for
from refsynth.models.nearness import near_of
from refsynth.models.store import ModelStore

SETS = ("clinc150", "bitext_support", "ag_news_test", "financial_phrasebank", "imdb_counterfactual")
SHOTS, ROWS, FEW, SOME = 8, 300, 10, 10
AWAY = (
    "I am out of the office until Monday and will answer your message when I return.",
    "Out of office: I am on leave from 3 to 14 August with no access to email.",
    "Thank you for your email. I am currently away and will reply on my return.",
    "This is an automatic reply. The mailbox is not monitored.",
    "I am on parental leave until March. Please contact my colleague in the meantime.",
    "Automatic reply: I am traveling this week and answers may be delayed.",
    "Our office is closed for the holidays and opens again on January 2.",
    "Delivery to the following recipient failed permanently: mailbox is full.",
    "Undeliverable: your message could not be delivered to one or more recipients.",
    "Thank you for contacting us. Your message was received and this address does not accept replies.",
    "I no longer work here. Please direct your request to the general mailbox.",
    "I am attending a conference today and have limited access to my email.",
    "Do not reply to this message, it was sent from an unattended address.",
    "Autoreply: on vacation. For urgent matters call the front desk.",
    "Your message has been received and will be read by the next available person.",
    "I have left for the day. Back tomorrow at nine.",
    "This mailbox has moved. Please update your address book.",
    "Please unsubscribe me from this list.",
    "Meeting accepted: weekly planning, Thursday at ten.",
    "I am ill today and will read my messages once I am back.",
)
OTHER = "other"


def main(data: Path, seeds: int = 3) -> None:
    """Measure the cells that are missing, and print all."""
    cells = Cells(Path("benchmarks/results/constants-strange.jsonl"))
    outside = [json.loads(line)["text"] for line in (data / "clinc150" / "oos_test.jsonl").open(encoding="utf-8")]
    few = [json.loads(line)["text"] for line in (data / "clinc150" / "oos_train.jsonl").open(encoding="utf-8")]
    for learner in ("frozen", "tfidf"):
        for name in SETS:
            for seed in range(seeds):
                if not cells.find(learner=learner, set=name, seed=seed):
                    draw = np.random.default_rng(seed)
                    strange = {"questions": list(draw.permutation(outside)[:ROWS]), "replies": list(AWAY)}
                    for cell in _measured(_some(data, name, seed), learner, strange, list(draw.permutation(few)[:FEW]), seed):
                        cells.add({"learner": learner, "set": name, "seed": seed, **cell})
                        print(cells.rows[-1], flush=True)


def _some(data: Path, name: str, seed: int) -> Sample:
    """Return a sample of at most `SOME` labels, where a set has very many."""
    sample = read_sample(data, name, shots=SHOTS, seed=seed, test_rows=10**6)
    labels = list(sample.labels)
    chosen = set(labels if len(labels) < 100 else np.random.default_rng(seed).permutation(labels)[:SOME])
    train, test = ([row for row in rows if row["label"] in chosen] for rows in (sample.train, sample.test))
    shown = np.random.default_rng(0).permutation(len(test))[:ROWS]
    return Sample(train, [test[i] for i in shown], {label: sample.labels[label] for label in labels if label in chosen})


def _measured(sample: Sample, learner: str, strange: dict[str, list[str]], few: Sequence[str], seed: int) -> list[dict[str, Any]]:
    rows = [Example(f"row-{i}", row["text"], row["label"]) for i, row in enumerate(sample.train)]
    asked = {"rows": [row["text"] for row in sample.test], **strange}
    bars: dict[str, list[FloatArray]] = {}
    for part in parts(rows, fold_of(rows, folds=4, seed=seed, groups=np.arange(len(rows)))):
        fitted = _fit(part.train, dict(sample.labels), learner, seed)
        for score, values in _scores(fitted, part.train, [row.text for row in part.held]).items():
            bars.setdefault(score, []).append(values)
    fitted = _fit(rows, dict(sample.labels), learner, seed)
    said = {what: _scores(fitted, rows, texts) for what, texts in asked.items()}
    out = []
    for score, values in bars.items():
        bar = bar_of(np.concatenate(values))
        flagged = {what: None if bar is None else float(np.mean(found[score] < bar)) for what, found in said.items()}
        out.append({"score": score, **flagged, "auroc": _area(said["rows"][score], said["questions"][score])})
    others = [Example(f"other-{i}", text, OTHER) for i, text in enumerate(few)]
    learned = _fit([*rows, *others], {**sample.labels, OTHER: "something else"}, learner, seed)
    at = learned.labels.index(OTHER)
    seen = {what: softmax(np.asarray(learned.logits(texts), float)) for what, texts in asked.items()}
    flagged = {what: float(np.mean(found.argmax(1) == at)) for what, found in seen.items()}
    return [*out, {"score": "a label of 10", **flagged, "auroc": _area(-seen["rows"][:, at], -seen["questions"][:, at])}]


def _scores(predictor: Predictor, rows: Sequence[Example], texts: Sequence[str]) -> dict[str, FloatArray]:
    near = near_of(predictor, rows)
    assert near is not None
    probable = softmax(np.asarray(predictor.logits(texts), float)).max(1)
    return {"probability": probable, "likeness": np.asarray(near.logits(texts)).max(1)}


def _fit(rows: Sequence[Example], labels: dict[str, str], learner: str, seed: int) -> Predictor:
    task = Task.of(RunConfig.parse({"labels": labels}))
    context = make_context(task, "en", ModelStore().path(encoder_for("en").name), max_tokens=128)
    return LEARNERS[learner](context).fit(rows, (), seed=seed)


def _area(rows: FloatArray, strange: FloatArray) -> float:
    """Return how often a row has a higher score than a strange text."""
    return float(np.mean(np.asarray(rows)[:, None] > np.asarray(strange)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
