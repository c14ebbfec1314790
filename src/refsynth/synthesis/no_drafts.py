"""Explains why a run that asked for drafts kept none, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from refsynth.core.errors import counted
from refsynth.core.scorers import SCORERS
from refsynth.core.types import Draft
from refsynth.evaluation.leakage import LEAKED
from refsynth.synthesis.parse import CUT_OFF, ECHO, EMPTY, LANGUAGE, REFUSED, UNWRITTEN
from refsynth.synthesis.selection.filter import COPY, DUPLICATE, NEAR_DUPLICATE, NO_PAIR, TWO_LABELS
from refsynth.synthesis.selection.sanity import LONG, REPETITIVE, SHORT

LARGER = "name a larger model under reference in task.yaml"

_ALIKE = "the texts are all alike: add ways under synthesis.ways, or raise synthesis.temperature"
_REPEATS = f"the model repeats the examples in its prompts: {LARGER}, or raise synthesis.temperature"
_NO_TEXT = f"the model does not write texts of this kind: {LARGER}"

_REMEDIES: Mapping[str, str] = {
    REFUSED: "the model refuses to write such texts: describe the labels in other words, or name another model",
    UNWRITTEN: f"the model answers without texts: {LARGER}, or raise synthesis.max_tokens if it thinks before it writes",
    EMPTY: f"the model answers without texts: {LARGER}",
    CUT_OFF: "the texts are longer than synthesis.max_tokens: raise it",
    LONG: "the texts are too long: say in the labels' descriptions how short they are, or lower synthesis.max_tokens",
    LANGUAGE: f"the model does not write the language: {LARGER}",
    **dict.fromkeys((SHORT, REPETITIVE, NO_PAIR), _NO_TEXT),
    **dict.fromkeys((ECHO, COPY), _REPEATS),
    **dict.fromkeys((DUPLICATE, NEAR_DUPLICATE), _ALIKE),
    TWO_LABELS: f"the model does not know what the labels mean: describe them in task.yaml in plain words, or {LARGER}",
    LEAKED: "the drafts resemble the test file: the reference may have memorized it, name another",
}


def explain_no_drafts(asked: int, rejected: Mapping[str, int], drafts: Sequence[Draft]) -> str | None:
    """Return why no draft is trained on and what to do; None if some are, or none were asked for.

    Args:
        asked: how many drafts were asked for.
        rejected: how many completions gave no draft, by reason.
        drafts: the drafts, each with the reason why it was dropped.
    """
    reasons = Counter(rejected)
    for draft in drafts:
        if draft.dropped is None:
            return None
        reasons[draft.dropped] += 1
    if not asked or not reasons:
        return None
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    of_scorers = {why: spec.remedy for spec in SCORERS.values() for why in spec.reasons}
    first = reasons.most_common(1)[0][0]
    remedy = _REMEDIES.get(first) or of_scorers.get(first) or LARGER
    return f"none of {counted(asked, 'draft')} is kept ({counts}); {remedy}"
