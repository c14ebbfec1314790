"""The sentence on when a text counts as about none of a bundle's labels, for report, card and screen."""

from __future__ import annotations

from refsynth.bundle.manifest import Manifest

NEAR, NEAR_BIAS = "near", "near_bias"
"""The tensors of `models.nearness.below`."""

ANOTHER_FORM = "the threshold was not measured on held-out rows in this form"
UNKNOWN = "no threshold was measured"


def none_sentence(manifest: Manifest) -> str:
    """Return when a text is marked as none of the labels, or why none is."""
    if rule := manifest.none.rule:
        learned = manifest.none.learned
        return learned.sentence(rule) if learned else rule.sentence
    if manifest.answers.several:
        return "None of these: nothing is marked, since an answer here may be no label."
    if manifest.answers.words:
        return "None of these: nothing is marked, since a text here may have no labeled words."
    return f"None of these: nothing is marked, since {manifest.none.why or UNKNOWN}."
