"""The one sentence that report, card and screen share on when a text is about none of a bundle's labels."""

from __future__ import annotations

from refsynth.bundle.manifest import Manifest

NEAR, NEAR_BIAS = "near", "near_bias"
"""The tensors of `models.nearness.below`."""

ANOTHER_FORM = "its bar would have to be measured on held-out rows in this form, and was not"
UNKNOWN = "no bar was measured"


def none_sentence(manifest: Manifest) -> str:
    """Return when a text is marked, or that none is and why."""
    if rule := manifest.none.rule:
        learned = manifest.none.learned
        return learned.sentence(rule) if learned else rule.sentence
    if manifest.answers.several:
        return "None of these: nothing is marked, since an answer here may be no label."
    if manifest.answers.spans:
        return "None of these: nothing is marked, since a text here may have no labeled words."
    return f"None of these: nothing is marked, since {manifest.none.why or UNKNOWN}."
