"""Why no draft was kept, and what to do about it: said when a run asked for drafts and trains on none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from refsynth.core.errors import counted
from refsynth.core.scorers import SCORERS
from refsynth.core.types import Draft
from refsynth.evaluation.leakage import LEAKED
from refsynth.synthesis.parse import CUT_OFF, ECHO, EMPTY, LANGUAGE, REFUSED, UNWRITTEN
from refsynth.synthesis.selection.filter import (
    COPY,
    DUPLICATE,
    NEAR_DUPLICATE,
    NO_PAIR,
    TWO_LABELS,
)
from refsynth.synthesis.selection.sanity import LONG, REPETITIVE, SHORT

LARGER = "name a larger model under reference in task.yaml"

_ALIKE = "the texts are all alike: add ways under synthesis.ways, or raise synthesis.temperature"
_REPEATS = f"the model repeats what it is shown: {LARGER}, or raise synthesis.temperature"
_NO_TEXT = f"what the model writes is no text of this kind: {LARGER}"

_REMEDIES: Mapping[str, str] = {
    REFUSED: "the model will not write such texts: say in other words what the labels mean, or name another model",
    UNWRITTEN: f"the model answers without texts: {LARGER}, or raise synthesis.max_tokens if it thinks before it writes",
    EMPTY: f"the model answers without texts: {LARGER}",
    CUT_OFF: "the texts are longer than synthesis.max_tokens: raise it",
    LONG: "the texts run on: say in the labels' descriptions how short they are, or lower synthesis.max_tokens",
    LANGUAGE: f"the model does not write the language: {LARGER}",
    **dict.fromkeys((SHORT, REPETITIVE, NO_PAIR), _NO_TEXT),
    **dict.fromkeys((ECHO, COPY), _REPEATS),
    **dict.fromkeys((DUPLICATE, NEAR_DUPLICATE), _ALIKE),
    TWO_LABELS: f"the model does not know what the labels mean: say it in task.yaml in plain words, or {LARGER}",
    LEAKED: "the drafts resemble the test file: the reference may know it by heart, name another",
}


def none_kept(asked: int, rejected: Mapping[str, int], drafts: Sequence[Draft]) -> str | None:
    """Return why no draft is trained on, and what to do; None where one is, or none was asked for.

    Args:
        asked: how many drafts were asked for.
        rejected: completions that gave no draft, by reason.
        drafts: the drafts with what was wrong with them.
    """
    reasons = Counter(rejected)
    for draft in drafts:
        if draft.dropped is None:
            return None
        reasons[draft.dropped] += 1
    if not asked or not reasons:
        return None
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    first = reasons.most_common(1)[0][0]
    return f"none of {counted(asked, 'draft')} is kept ({told}); {_remedy(first)}"


def _remedy(reason: str) -> str:
    """Return what to do about drafts that are left out for a reason."""
    scorers = {why: spec.remedy for spec in SCORERS.values() for why in spec.reasons}
    return _REMEDIES.get(reason) or scorers.get(reason) or LARGER
