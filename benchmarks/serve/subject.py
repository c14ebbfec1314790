"""What is served while it is measured, and texts for it: each has its own number, and no two numbers give the same text."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import yaml

from refsynth import bundle
from refsynth.core.config import RunConfig
from refsynth.core.task import Task
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary

LABELS = ("billing", "delivery", "other")
TERMS = tuple(f"w{index}" for index in range(400))
WORDS = 6
"""Words of a short text: about nine tokens with the marks of its ends."""
_MIX = 2654435761  # a large prime (Knuth's hash), coprime to every number of texts here: neighbours become strangers
_EXAMPLE = files("refsynth") / "examples" / "tickets"


def example_bundle(folder: Path) -> Path:
    """Return an int8 bundle of the built-in tickets, trained now (frozen encoder, no drafts) where there is none yet.

    Raises:
        RefsynthError: the extra `train` or the encoder is not there.
    """
    if not (folder / "bundle").is_dir():
        from refsynth.pipeline.flow import run  # late: it imports what trains

        tree = {
            "language": "en",
            "labels": yaml.safe_load((_EXAMPLE / "labels.yaml").read_text("utf-8")),
            "data": {"train": str(_EXAMPLE / "train.csv"), "columns": {"text": "message", "label": "intent"}},
            "learners": ["frozen"],
            "synthesis": {"drafts": 0},
        }
        run(Task.of(RunConfig.parse(tree)), out=folder)
    return folder / "bundle"


def exact_bundle(folder: Path, *, seed: int = 0) -> Path:
    """Write a TF-IDF bundle whose probabilities tell all texts of `TERMS` apart, whatever shares their batch; return it."""
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary("word", 1, 1, TERMS, rng.uniform(1, 3, len(TERMS)))
    head = LinearHead(rng.normal(size=(len(TERMS), len(LABELS))), rng.normal(size=len(LABELS)))
    predictor = TfidfPredictor(LABELS, TfidfVectors([vocabulary]), head)
    calibration = bundle.Calibration(temperature=0.7, threshold=0.4)
    bundle.save(
        folder,
        bundle.Contents(
            labels={label: f"about {label}" for label in LABELS},
            language="en",
            tiers=[bundle.TierContents(bundle.pack(predictor, folder), predictor, calibration)],
        ),
    )
    return folder


def short_text(number: int) -> str:
    """Return a text of a few words of the tickets that no other number below a billion gives."""
    return " ".join(_spelled(number, _vocabulary()))


def ticket_text(number: int) -> str:
    """Return a ticket of the example, about 20 tokens, and a few words that no other number below a billion gives."""
    return f"{_messages()[number % len(_messages())]} {short_text(number)}"


def exact_text(number: int) -> str:
    """Return a text for `exact_bundle` that no other number below a billion gives."""
    return " ".join(_spelled(number, TERMS))


def _spelled(number: int, words: tuple[str, ...]) -> list[str]:
    """Return a number as digits in base len(words), mixed so that neighbours share few."""
    left = number * _MIX % len(words) ** WORDS
    spelled = []
    for _ in range(WORDS):
        left, digit = divmod(left, len(words))
        spelled.append(words[digit])
    return spelled


@cache
def _messages() -> tuple[str, ...]:
    lines = (_EXAMPLE / "train.csv").read_text("utf-8").splitlines()
    return tuple(row["message"] for row in csv.DictReader(lines))


@cache
def _vocabulary() -> tuple[str, ...]:
    words = {word for message in _messages() for word in message.lower().split() if word.isalpha() and len(word) > 2}
    return tuple(sorted(words))
