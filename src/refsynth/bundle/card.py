"""The model card: the README.md of a bundle, with the front matter that the Hugging Face hub reads. Returns text, no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import yaml

from refsynth.bundle.certificate import Confidence, EarlyExit
from refsynth.bundle.manifest import Manifest
from refsynth.bundle.none import none_sentence
from refsynth.bundle.unsure import unsure_sentence
from refsynth.core.kinds import TASK_KINDS
from refsynth.core.markup import markdown, one_line
from refsynth.core.windows import REACH

_USE = """```python
import refsynth

model = refsynth.load("path/to/this/folder")
model.predict([{text}])   # {answer}, abstain
```
or `refsynth predict path/to/this/folder texts.jsonl`."""
CONFIDENCES: Mapping[Confidence, str] = {
    "odds": "the probability of its top label against the second alone",
    "probability": "the probability of its top label",
    "answer": "the probability of its whole answer",
}
"""What the threshold of the first tier of a cascade applies to."""


CROSSED = "cross-validated"
"""The first word of the names of figures on held-out rows of the training file."""


def render_card(manifest: Manifest, *, limits: Sequence[str]) -> str:
    """Return the card of a bundle.

    Args:
        manifest: the manifest of the bundle; its `files` may still be empty.
        limits: sentences on what the bundle should not be used for.
    """
    sections = [
        _front_matter(manifest),
        f"# {TASK_KINDS[manifest.task].title}".format(k=len(manifest.labels)),
        f"Made by refsynth {manifest.refsynth}. It runs on a CPU, without torch and without a network.",
        "## Labels",
        _labels(manifest),
        "## How good it is",
        _metrics(manifest),
        *_tiers(manifest),
        "## When it does not answer",
        _abstention(manifest),
        none_sentence(manifest),
        "## Data",
        _made_from(manifest),
        "## Limits",
        "\n".join(f"- {one_line(limit)}" for limit in (*limits, *_limits(manifest))),
        "## Use",
        _USE.format(text=TASK_KINDS[manifest.task].example, answer=TASK_KINDS[manifest.task].gives),
    ]
    return "\n\n".join(sections) + "\n"


def _made_from(manifest: Manifest) -> str:
    """Return where the model comes from, as the run recorded it."""
    if "candidate" not in manifest.lineage:
        return "Not recorded."
    names = ("candidate", "reference", "seed", "reason")
    candidate, reference, seed, reason = (_safe(str(manifest.lineage.get(name))) for name in names)
    return (
        f"Trained by a run: {candidate}, seed {seed}. The run's decision on drafts (reference: {reference}): {reason}. "
        "The report of the run lists the files and the rows."
    )


def _labels(manifest: Manifest) -> str:
    if not manifest.calibration.thresholds:
        return _table(("label", "meaning"), ((_safe(label.name), _safe(label.description)) for label in manifest.labels))
    pairs = zip(manifest.labels, manifest.calibration.thresholds, strict=True)
    rows = ((_safe(label.name), _safe(label.description), f"{threshold:.3f}") for label, threshold in pairs)
    return _table(("label", "meaning", "decision threshold"), rows)


def _front_matter(manifest: Manifest) -> str:
    fields = {
        "library_name": "refsynth",
        "pipeline_tag": (tag := "token-classification" if manifest.answers.words else "text-classification"),
        "tags": ["refsynth", tag, *(tier.kind for tier in manifest.tiers)],
        **({} if manifest.language == "auto" else {"language": manifest.language}),
    }
    return f"---\n{yaml.safe_dump(fields, allow_unicode=True, sort_keys=False)}---"


def _metrics(manifest: Manifest) -> str:
    if not manifest.metrics:
        return "Nobody has measured it."
    rows = (
        (name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}", f"{figure.n:,}")
        for name, figure in sorted(manifest.metrics.items())
    )
    table = _table(("metric", "value", "95% interval", "rows"), rows)
    return "\n\n".join([table, *_measured_on(manifest), manifest.intervals])


def _measured_on(manifest: Manifest) -> list[str]:
    """Return sentences on the rows that the figures were measured on, as far as their names and the manifest tell."""
    crossed = [name for name in sorted(manifest.metrics) if name.startswith(CROSSED)]
    tested = [name for name in manifest.tested if name in manifest.metrics]
    return [
        *(f"The {name} was measured on held-out rows of the training file, by models that never saw them." for name in crossed),
        *(
            f"The {name} was measured on a test file. Its rows only took out drafts and pool texts that resemble them."
            for name in tested
        ),
    ]


def _tiers(manifest: Manifest) -> list[str]:
    if len(manifest.tiers) == 1:
        return []
    parts = ["## Two tiers" if len(manifest.tiers) == 2 else f"## {len(manifest.tiers)} tiers"]
    for tier in manifest.tiers:
        if tier.early is not None:
            parts += [_certified(tier.early), "\n".join(f"- {line}" for line in tier.early.certificate.assumptions)]
    return parts


def _certified(early: EarlyExit) -> str:
    certificate, confidence = early.certificate, CONFIDENCES[early.confidence]
    return (
        f"A static tier answers where {confidence} is at least {early.threshold:.3f}, about {certificate.share:.0%} of texts; "
        f"the encoder answers the others. With {1 - certificate.delta:.0%} confidence at most {certificate.alpha:.1%} of texts "
        f"are answered otherwise than by the encoder alone, tested on {certificate.n:,} unlabeled texts ({certificate.disagreed} "
        "answered otherwise). This assumes:"
    )


def _abstention(manifest: Manifest) -> str:
    calibration, first, rule = manifest.calibration, manifest.tiers[0], unsure_sentence(manifest)
    if not rule and not any(tier.calibration.threshold for tier in manifest.tiers):
        return "It always answers: no threshold was set."
    together = "spans" if manifest.answers.words else "labels" if manifest.answers.several else ""
    confidence, model = f"probability of all its {together} together" if together else "top probability", "it"
    text = rule or f"It abstains where its {confidence} is below {calibration.threshold:.3f}."
    if rule and together:
        text += f" The confidence is the {confidence}."
    if first is not manifest.last:  # the figures below are those of the second tier
        model = "the encoder alone"
        fast, slow = first.calibration.threshold, calibration.threshold
        text = f"A tier abstains where its {confidence} is low: the static one below {fast:.3f}, the encoder below {slow:.3f}."
    if calibration.coverage is not None and calibration.risk is not None:
        text += (
            f" On held-out rows, with thresholds chosen on the other folds, {model} answered {calibration.coverage:.1%} and was"
            f" wrong on {calibration.risk:.1%} of those."
        )
    return text


def _limits(manifest: Manifest) -> list[str]:
    instead = "none of them, or the nearest" if manifest.answers.several else "the nearest of them, or an abstention"
    limits = [f"It knows only these labels: a text about something else gets {instead}."]
    if manifest.answers.words:
        limits = ["It knows only these labels, and finds whole words: spans do not overlap and do not end inside a word."]
    for tier in manifest.tiers:
        if tier.spec.carries:
            which = "its first tier" if tier is manifest.tiers[0] else "one of its tiers"
            model = "it" if len(manifest.tiers) == 1 else which
            terms = f"{tier.spec.carries} of the texts that {model} learned from"
            where = tier.named(tier.spec.files[0])
            limits.append(f"It carries {terms} ({where}); everyone who has it can read them. They may include names.")
    if manifest.few_words:
        limits.append("Its vocabulary shows which pieces of words occur in the texts that it learned from.")
    if manifest.last.max_tokens is not None:
        reader = "It" if all(tier.spec.tokens for tier in manifest.tiers) else "Its encoder"
        limits.append(f"{reader} {_reading(manifest)}")
    return limits


def _reading(manifest: Manifest) -> str:
    longest, windows = manifest.last.max_tokens or 0, manifest.last.windows
    if windows == "head_tail":
        return f"reads the first and the last {longest // 2} tokens of a longer text and ignores those in between."
    if windows == "mean" and manifest.answers.words:
        return f"reads long texts in up to {REACH} overlapping windows of {longest} tokens and ignores what comes after them."
    if windows == "mean":
        return (
            f"averages the vectors of up to {REACH} windows of {longest} tokens of long texts and ignores what comes after them."
        )
    return f"reads the first {longest} tokens of a text and ignores the others."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def _safe(text: str) -> str:
    """Return a user's words as one line of plain text without markup."""
    return markdown(one_line(text))
