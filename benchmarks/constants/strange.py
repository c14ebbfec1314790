"""Which score tells texts about none of the labels: the confidence, the likeness to rows, or what some such texts teach?

    python -m benchmarks.constants.strange DATA [seeds]

DATA holds the data sets of docs/how-to/benchmarks.md and clinc150 with its out-of-scope files. A model of 8 rows a label is asked
about 300 test rows, 300 out-of-scope questions and 12 automatic replies. The bar of each score is set on held-out training rows,
as a run does. The texts to learn from are 8 or 32 other out-of-scope questions, or the 8 other replies. They take half of their
likeness off the likeness to rows, or are a label more. Cells are appended to benchmarks/results/constants-strange.jsonl.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import Cells
from benchmarks.sets import Sample, read_sample
from refsynth.core.config import RunConfig
from refsynth.core.learners import LearnerName
from refsynth.core.protocols import Predictor
from refsynth.core.task import Task
from refsynth.core.types import Example, FloatArray
from refsynth.data.split import fold_of, parts
from refsynth.evaluation.strange import bar_of
from refsynth.kinds.metrics import softmax
from refsynth.learning.context import make_context
from refsynth.learning.makers import make_learner
from refsynth.models.encoders import encoder_for
from refsynth.models.nearness import against, near_of
from refsynth.models.store import ModelStore

SETS = ("clinc150", "bitext_support", "financial_phrasebank")
SHOTS, ROWS, SOME = 8, 300, 10
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


class Texts(NamedTuple):
    """Texts of none of the labels: those to learn from by name, and those that are asked about by kind."""

    learned: dict[str, list[str]]
    asked: dict[str, list[str]]


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
                    asked, taught, replies = (list(draw.permutation(texts)) for texts in (outside, few, AWAY))
                    learned = {"8 questions": taught[:8], "32 questions": taught[:32], "8 replies": replies[:8]}
                    texts = Texts(learned, {"questions": asked[:ROWS], "replies": replies[8:]})
                    for cell in _measured(_some(data, name, seed), learner, texts, seed):
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


def _measured(sample: Sample, learner: LearnerName, texts: Texts, seed: int) -> list[dict[str, Any]]:
    rows = [Example(f"row-{i}", row["text"], row["label"]) for i, row in enumerate(sample.train)]
    asked = {"rows": [row["text"] for row in sample.test], **texts.asked}
    bars: dict[str, list[FloatArray]] = {}
    for number, part in enumerate(parts(rows, fold_of(rows, folds=4, seed=seed, groups=np.arange(len(rows))))):
        fitted = _fit(part.train, dict(sample.labels), learner, seed)
        kept = {name: [text for place, text in enumerate(some) if place % 4 != number] for name, some in texts.learned.items()}
        for score, values in _scores(fitted, part.train, kept, {"held": [row.text for row in part.held]})["held"].items():
            bars.setdefault(score, []).append(values)
    fitted = _fit(rows, dict(sample.labels), learner, seed)
    said = _scores(fitted, rows, texts.learned, asked)
    out = []
    for score, held_out in bars.items():
        bar = bar_of(np.concatenate(held_out))
        flagged = {what: None if bar is None else float(np.mean(found[score] < bar)) for what, found in said.items()}
        out.append({"score": score, **flagged, "auroc": _areas({what: found[score] for what, found in said.items()})})
    return [*out, *(_as_label(rows, sample, name, some, asked, learner, seed) for name, some in texts.learned.items())]


def _as_label(
    rows: Sequence[Example],
    sample: Sample,
    name: str,
    some: Sequence[str],
    asked: dict[str, list[str]],
    learner: LearnerName,
    seed: int,
) -> dict[str, Any]:
    """Return what becomes of the texts where those to learn from are one label more."""
    others = [Example(f"other-{i}", text, OTHER) for i, text in enumerate(some)]
    learned = _fit([*rows, *others], {**sample.labels, OTHER: "something else"}, learner, seed)
    at = learned.labels.index(OTHER)
    seen = {what: softmax(np.asarray(learned.logits(texts), float)) for what, texts in asked.items()}
    flagged = {what: float(np.mean(found.argmax(1) == at)) for what, found in seen.items()}
    return {"score": f"a label of {name}", **flagged, "auroc": _areas({what: -found[:, at] for what, found in seen.items()})}


def _scores(
    predictor: Predictor, rows: Sequence[Example], learned: dict[str, list[str]], asked: dict[str, list[str]]
) -> dict[str, dict[str, FloatArray]]:
    """Return the scores of the texts that are asked about, by what they are and by the name of the score."""
    near = near_of(predictor, rows)
    assert near is not None
    heads = {"likeness": near} | {f"likeness less {name}": against(near, some) for name, some in learned.items()}
    out = {}
    for what, texts in asked.items():
        probable = softmax(np.asarray(predictor.logits(texts), float)).max(1)
        out[what] = {"probability": probable} | {name: np.asarray(head.logits(texts)).max(1) for name, head in heads.items()}
    return out


def _fit(rows: Sequence[Example], labels: dict[str, str], learner: LearnerName, seed: int) -> Predictor:
    task = Task.of(RunConfig.parse({"labels": labels}))
    context = make_context(task, "en", ModelStore().path(encoder_for("en").name), max_tokens=128)
    return make_learner(learner, context).fit(rows, (), seed=seed)


def _areas(scores: dict[str, FloatArray]) -> dict[str, float]:
    """Return how often a row has a higher score than a text of each other kind, a tie counted half."""
    rows, others = scores["rows"][:, None], {what: found for what, found in scores.items() if what != "rows"}
    return {what: float(np.mean((rows > found) + (rows == found) / 2)) for what, found in others.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
