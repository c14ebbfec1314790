"""A report with every section, from simulated predictions; and what a page is made of."""

import html.parser
import re
from collections import Counter

import numpy as np

from refsynth.core.intervals import accuracy_interval, bootstrap, paired_gain
from refsynth.core.types import Draft, Example, Provenance
from refsynth.evaluation.calibration import fit_temperature, threshold_of
from refsynth.evaluation.confidence import CalibrationReport
from refsynth.evaluation.origins import (
    Artifact,
    Coverage,
    Data,
    DataFile,
    Diversity,
    DraftCount,
    Drafts,
    FoldFigures,
    Lineage,
    ScoreHistogram,
    Skipped,
    Step,
)
from refsynth.evaluation.report import Report
from refsynth.evaluation.sections import Classes, Comparison, Compression, Gate, Results, System, Variant
from refsynth.kinds import metrics

HOSTILE = "</script><img src=x onerror=alert(1)>\"'`|*_[a](javascript:x) {{ 7*7 }} $\\frac{$ \x00\u202e\ud800 --><style>"


ENGLISH = {
    "order_status": "the customer asks where an order is or when it will arrive",
    "return_refund": "the customer wants to send something back or asks for the money",
    "damaged_item": "the customer reports a broken or incomplete delivery",
    "account_access": "the customer cannot sign in",
    "payment": "the customer asks about a charge, an invoice or a way to pay",
}


SYSTEMS = (
    ("majority", "always the most frequent label", 0.0),
    ("TF-IDF + logistic regression", "words, the real rows only", 0.35),
    ("frozen encoder + logistic regression", "all-MiniLM-L6-v2, the real rows only", 0.62),
    ("contrastive, real rows only", "", 0.70),
    ("contrastive, real + drafts", "fp32", 0.80),
    ("bundle, int8", "the same, compressed", 0.79),
)


def simulate(k, n, skill, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), truth] += 0.2 + (1.6 + 0.25 * np.log2(k)) * skill
    logits[np.arange(n), truth - truth % 2] += 1.2  # neighbours are mistaken for one another
    return truth, 1.7 * logits


def example_results(k, n, file):
    systems = []
    for place, (name, detail, skill) in enumerate(SYSTEMS):
        truth, logits = simulate(k, n, skill)
        predicted = logits.argmax(1) if place else np.full(n, np.bincount(truth).argmax())
        systems.append(
            System(
                name=name,
                detail=detail,
                accuracy=accuracy_interval(truth, predicted),
                macro_f1=bootstrap("macro-F1", lambda rows, t=truth, p=predicted: metrics.macro_f1(t[rows], p[rows], k), n),
                texts_per_second=None if not place else (None, 41_200.0, 412.0, 405.0, 402.0, 1_338.0)[place],
                size_mb=(None, 0.9, 86.7, 86.7, 86.7, 22.9)[place],
                shipped=name.startswith("bundle"),
            )
        )
    return Results(systems=tuple(systems), source="test file" if file else "cross-validation", n=n, file=file)


def example_gate(accepted, n):
    rng = np.random.default_rng(1)
    lines = []
    for learner, base, lift in (("tfidf", 0.48, 0.09), ("frozen", 0.66, 0.03), ("contrastive", 0.71, 0.07)):
        lift = lift if accepted else 0.02 - lift / 2
        real = (rng.random(n) < base).astype(float)
        other = np.clip(real + (rng.random(n) < 3 * abs(lift)) * np.sign(lift), 0, 1)
        gain = paired_gain(real, other)
        columns = [accuracy_interval(np.ones(n), column) for column in (real, other)]
        lines.append(Comparison(learner=learner, real=columns[0], augmented=columns[1], gain=gain))
    reason = "the interval of its gain lies above zero" if accepted else "no learner's gain has an interval above zero"
    return Gate(
        comparisons=tuple(lines),
        accepted=accepted,
        learner="contrastive",
        reason=reason,
        folds=4,
        repeats=2,
    )


def example_drafts(labels, texts, language):
    rng = np.random.default_rng(2)
    kept, dropped = rng.normal(0.74, 0.11, 612), rng.normal(0.35, 0.16, 388)
    origin = Provenance("list-4", ("row-12", "row-31"), 913_402, f"SmolLM2-135M-Instruct int8 ({language})")

    def draft(i, reason=None):
        score = {"agreement": float(rng.random()), "fluency": -float(2 + rng.random()), "influence": float(rng.normal())}
        return Draft(Example(f"draft-{i:04d}", texts[i % len(texts)], list(labels)[i % len(labels)], origin), score, reason)

    return Drafts(
        reference="SmolLM2-135M-Instruct int8",
        asked=1000,
        parsed=971,
        kept=612,
        dropped={"malformed": 29, "other class": 201, "near-duplicate": 97, "unlikely text": 61},
        seconds=71.4,
        per_class=tuple(
            DraftCount(label=label, asked=1000 // len(labels), kept=int((1000 // len(labels)) * (0.2 + 0.6 * rng.random())))
            for label in labels
        ),
        diversity=(
            Diversity(name="real rows", distinct_1=0.61, distinct_2=0.92, self_bleu=0.12, nearest_overlap=0.21, n=94),
            Diversity(name="kept drafts", distinct_1=0.18, distinct_2=0.57, self_bleu=0.447, nearest_overlap=0.38, n=612),
        ),
        coverage=Coverage(value=0.628, expected=0.868, k=1, n=94, drafts=612),
        agreement=accuracy_interval(np.ones(971), (np.arange(971) < 702).astype(float)),
        scores=(
            ScoreHistogram.of("agreement with the real rows' model", kept, dropped),
            ScoreHistogram.of("mean log-probability, nats per token", kept * 2 - 4, dropped * 2 - 4),
            ScoreHistogram.of("influence", kept - 0.5, dropped - 0.5),
        ),
        best=tuple(draft(i) for i in range(3)),
        worst=tuple(draft(i) for i in range(3, 5)),
        rejected=tuple(draft(i, "other class") for i in range(5, 7)),
        seeds={"row-12": texts[0], "row-31": texts[1]},
    )


def example_data(labels, file, texts):
    return Data(
        files=(
            DataFile(
                role="train",
                file=file,
                rows=98,
                used=94,
                format="CSV, utf-8, comma",
                skipped=(Skipped(reason="empty text", rows=(14, 57)), Skipped(reason="two labels", rows=(8, 31))),
            ),
        ),
        per_label={label: 3 + 5 * (i % 4) for i, label in enumerate(labels)},
        folds=tuple(FoldFigures(rows=23 + i % 2, drafts_held_out=180 + 7 * i) for i in range(4)),
    )


def example_lineage():
    steps = (("split", 0.1), ("baseline", 4.2), ("synthesize", 71.4), ("filter", 12.9), ("train", 160.3), ("compress", 21.0))
    return Lineage(
        command="refsynth run tickets/task.yaml --out runs/tickets --seed 0",
        seeds={"root": 0, "split": 1_608_637_542, "synthesize": 91_340_233},
        machine="2 cores, x86-64, Linux, no GPU",
        versions={"refsynth": "0.1.0", "python": "3.11.9", "numpy": "2.4.6", "torch": "2.13.0", "onnxruntime": "1.31.0"},
        artifacts=(
            Artifact(name="tickets.csv", sha256="6b" * 32, detail="training rows"),
            Artifact(name="SmolLM2-135M-Instruct", sha256="b1" * 32, detail="reference, Apache-2.0"),
        ),
        steps=tuple(Step(name=name, seconds=seconds, sha256=f"{i}a" * 32) for i, (name, seconds) in enumerate(steps)),
    )


def example(labels=None, *, language="en", title="Support tickets", accepted=True, n=600, file="test.csv", texts=None):
    """Build a report with every section, from simulated predictions."""
    labels = labels or ENGLISH
    texts = texts or (
        "My parcel has been 'out for delivery' since Monday. Can somebody look into it?",
        "I was charged twice for the same order, please send one payment back.",
        "The lid arrived cracked and two screws are missing.",
        "how do i get back into my account, the code never comes",
        "Do you take payment in instalments?",
        "Thanks for nothing.",
        "Dear customer, we are happy to inform you that your refund was approved.",
    )
    k, source = len(labels), "test file" if file else "cross-validation"
    truth, logits = simulate(k, n, 0.79)
    temperature = fit_temperature(logits, truth)
    probabilities = metrics.softmax(logits / temperature)
    accuracy = accuracy_interval(truth, logits.argmax(1))
    return Report(
        title=title,
        task="classify",
        language=language,
        date="2026-03-14",
        version="0.1.0",
        labels=labels,
        results=example_results(k, n, file),
        gate=example_gate(accepted, 94),
        classes=Classes.of(list(labels), truth, logits.argmax(1), source=source),
        calibration=CalibrationReport.of(
            truth,
            probabilities,
            threshold=threshold_of(probabilities.argmax(1) == truth, probabilities.max(1)),
            source=source,
            temperature=temperature,
            uncalibrated=metrics.softmax(logits),
        ),
        drafts=example_drafts(labels, texts, language),
        data=example_data(labels, "tickets.csv", texts),
        compression=Compression(
            variants=(
                Variant(name="fp32", size_mb=86.7, p50_ms=9.1, texts_per_second=402, score=accuracy),
                Variant(name="int8", size_mb=22.9, p50_ms=3.1, texts_per_second=1338, score=accuracy, shipped=True),
            ),
        ),
        lineage=example_lineage(),
    )


class Outline(html.parser.HTMLParser):
    """Collects what a page is made of, and checks that tags close in order."""

    VOID = ("meta", "br", "img", "link", "wbr", "input", "hr")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.ids, self.headings, self.text, self.targets = [], Counter(), Counter(), [], [], []
        self.attributes, self.headers = [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        values = dict(attrs)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if "id" in values:
            self.ids[values["id"]] += 1
        if tag in ("a", "use") or "clip-path" in values:
            self.targets += re.findall(r"#([\w-]+)", f"{values.get('href')} {values.get('xlink:href')} {values.get('clip-path')}")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "th":
            self.headers.append(values)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)
