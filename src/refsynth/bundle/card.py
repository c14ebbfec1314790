"""The model card: README.md of a bundle, with the front matter that the Hugging Face hub reads. Markdown text in, no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import yaml

from refsynth.bundle.certificate import Confidence, EarlyExit
from refsynth.bundle.manifest import Figure, Manifest, TierEntry
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
SURE: Mapping[Confidence, str] = {
    "odds": "the share of its likeliest label against the next",
    "probability": "the probability of its likeliest label",
    "answer": "the probability of its whole answer",
}
"""What of the first tier of a cascade its threshold is on."""


CROSSED = "cross-validated"
"""How the name of a figure on held-out rows of the training file begins."""


def render_card(manifest: Manifest, *, limits: Sequence[str]) -> str:
    """Return the card of a bundle.

    Args:
        manifest: of the bundle; its `files` may still be empty.
        limits: what it should not be used for, one sentence each.
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
    """Return what the run noted of how the model came about."""
    if "candidate" not in manifest.lineage:
        return "Not recorded."
    told = {name: markdown(one_line(str(manifest.lineage.get(name)))) for name in ("candidate", "reference", "seed", "reason")}
    return (
        f"Trained by a run: {told['candidate']}, seed {told['seed']}. Of drafts (reference: {told['reference']}) the run said: "
        f"{told['reason']}. Its report has the files and the rows."
    )


def _labels(manifest: Manifest) -> str:
    if not manifest.calibration.thresholds:
        return _table(("label", "meaning"), ((_safe(label.name), _safe(label.description)) for label in manifest.labels))
    bars = zip(manifest.labels, manifest.calibration.thresholds, strict=True)
    rows = ((_safe(one.name), _safe(one.description), f"{least:.3f}") for one, least in bars)
    return _table(("label", "meaning", "said from a probability of"), rows)


def _front_matter(manifest: Manifest) -> str:
    fields = {
        "library_name": "refsynth",
        "pipeline_tag": (tag := "token-classification" if manifest.answers.spans else "text-classification"),
        "tags": ["refsynth", tag, *(tier.kind for tier in manifest.tiers)],
        **({} if manifest.language == "auto" else {"language": manifest.language}),
    }
    return f"---\n{yaml.safe_dump(fields, allow_unicode=True, sort_keys=False)}---"


def _metrics(manifest: Manifest) -> str:
    if not manifest.metrics:
        return "Nobody has measured it."
    rows = (
        (name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}", f"{figure.n:,}")
        for name, figure in _sorted(manifest)
    )
    table = _table(("metric", "value", "95% interval", "rows"), rows)
    return "\n\n".join([table, *_measured_on(manifest), manifest.intervals])


def _measured_on(manifest: Manifest) -> list[str]:
    """Return which rows the figures are of, as far as their names and the manifest tell."""
    said = [
        f"The {name} is of rows of the training file, each asked of models that had not learned from it."
        for name in sorted(manifest.metrics)
        if name.startswith(CROSSED)
    ]
    tested = [name for name in manifest.tested if name in manifest.metrics]
    return said + [f"The {name} is of rows of a test file, which decided nothing." for name in tested]


def _sorted(manifest: Manifest) -> Iterable[tuple[str, Figure]]:
    return sorted(manifest.metrics.items())


def _tiers(manifest: Manifest) -> list[str]:
    if len(manifest.tiers) == 1:
        return []
    parts = ["## Two tiers" if len(manifest.tiers) == 2 else f"## {len(manifest.tiers)} tiers"]
    for tier in manifest.tiers:
        if tier.early is not None:
            parts += [_certified(tier.early), "\n".join(f"- {line}" for line in tier.early.certificate.assumptions)]
    return parts


def _certified(early: EarlyExit) -> str:
    found, whose = early.certificate, SURE[early.confidence]
    return (
        f"A static tier answers where {whose} is at least {early.threshold:.3f}, about {found.share:.0%} of texts; the encoder "
        f"answers the others. With {1 - found.delta:.0%} confidence at most {found.alpha:.1%} of texts are answered otherwise "
        f"than by the encoder alone, tested on {found.n:,} unlabelled texts ({found.disagreed} answered otherwise). It assumes:"
    )


def _abstention(manifest: Manifest) -> str:
    calibration, first, rule = manifest.calibration, manifest.tiers[0], unsure_sentence(manifest)
    if not rule and not any(tier.calibration.threshold for tier in manifest.tiers):
        return "It always answers: no threshold was set."
    together = "spans" if manifest.answers.spans else "labels" if manifest.answers.several else ""
    whose, who = f"probability of all its {together} together" if together else "top probability", "it"
    text = rule or f"It abstains where its {whose} is below {calibration.threshold:.3f}."
    if rule and together:
        text += f" The confidence is the {whose}."
    if first is not manifest.last:  # what was measured is the second tier
        bars, who = (first.calibration.threshold, calibration.threshold), "the encoder alone"
        text = f"A tier abstains where its {whose} is low: the static one below {bars[0]:.3f}, the encoder below {bars[1]:.3f}."
    if calibration.coverage is not None and calibration.risk is not None:
        text += (
            f" On held-out rows, with thresholds that suit the other folds, {who} answered {calibration.coverage:.1%} and was"
            f" wrong on {calibration.risk:.1%} of those."
        )
    return text


def _limits(manifest: Manifest) -> list[str]:
    instead = "none of them, or the nearest" if manifest.answers.several else "the nearest of them, or an abstention"
    limits = [f"It knows these labels only: a text about something else gets {instead}."]
    if manifest.answers.spans:
        limits = ["It knows these labels only, and finds whole words: spans do not overlap and do not end inside a word."]
    for tier in manifest.tiers:
        if tier.spec.carries:
            terms = f"{tier.spec.carries} of the texts that {_whose(manifest, tier)} learned from"
            where = tier.named(tier.spec.files[0])
            limits.append(f"It carries {terms} ({where}), readable by whoever has it. Names in these texts may be among them.")
    if manifest.few_words:
        limits.append("Which pieces of words it tells apart shows which occur in the texts that it learned from.")
    if manifest.last.max_tokens is not None:
        reader = "It" if all(tier.spec.tokens for tier in manifest.tiers) else "Its encoder"
        limits.append(f"{reader} {_reading(manifest)}")
    return limits


def _whose(manifest: Manifest, tier: TierEntry) -> str:
    return "it" if len(manifest.tiers) == 1 else "its first tier" if tier is manifest.tiers[0] else "one of its tiers"


def _reading(manifest: Manifest) -> str:
    """Return what is read of long texts."""
    longest, windows = manifest.last.max_tokens or 0, manifest.last.windows
    if windows == "head_tail":
        return f"reads the first and the last {longest // 2} tokens of a longer text; what stands between has no effect."
    if windows == "mean":
        how = "that overlap" if manifest.answers.spans else "whose vectors are averaged"
        return f"reads long texts in up to {REACH} windows of {longest} tokens {how}; what comes after them has no effect."
    return f"reads the first {longest} tokens of a text; what comes after has no effect."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def _safe(text: str) -> str:
    """Return a user's words as text that is no markup."""
    return markdown(one_line(text))
