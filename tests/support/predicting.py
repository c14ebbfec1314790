"""The commands `predict` and `evaluate` in an app of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import typer
from sklearn.feature_extraction.text import TfidfVectorizer
from typer.testing import CliRunner, Result

from refsynth import bundle
from refsynth.cli.evaluate import evaluate
from refsynth.cli.predict import predict
from refsynth.core.sections import Columns
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary

app = typer.Typer()
app.command("predict")(predict)
app.command("evaluate")(evaluate)

LABELS = ("card", "loan", "[bold]other")


def save_spotter(path: Path) -> Path:
    """A TF-IDF bundle: the label is the word in the text."""
    vectorizer = TfidfVectorizer().fit(["card loan other"])
    part = Vocabulary.of_sklearn(vectorizer)
    head = LinearHead(4.0 * np.eye(3), np.zeros(3))
    reference = TfidfPredictor(LABELS, TfidfVectors([part]), head)
    contents = bundle.Contents(
        labels=dict.fromkeys(LABELS, "words"),
        language="en",
        tiers=[bundle.TierContents(bundle.pack(reference, path), reference, bundle.Calibration(threshold=0.5))],
        facts=bundle.Facts(columns=Columns(text="Message", label="Topic")),
    )
    bundle.save(path, contents)
    return path


def run(*arguments: object, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)


def lines(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]
