"""Tags of words as spans, in the schemes that data sets are written in. Knows nothing of texts or files.

BIO in both readings (an `I-` that continues nothing begins a span, as conlleval has it), BIOES, BILOU, BMES and names alone (IO).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from refsynth.core.marks import MarkError
from refsynth.core.spans import Span

OUTSIDES = ("O", "o", "_")
"""Tags of a word outside of all spans; the last is CoNLL-U's for a value that is not there."""

_PREFIXED = re.compile(r"([BIMELSU])[-_](.+)")
_BARE = re.compile(r"[BIMELSU][-_]")
_BEGINS, _GOES_ON, _ENDS = "B", "IM", "EL"


def is_scheme(tags: Sequence[Any]) -> bool:
    """Return whether tags are of a scheme with prefixes beyond doubt: each is outside or prefixed, and one is prefixed."""
    inside = [tag for tag in tags if tag not in OUTSIDES]
    return bool(inside) and all(isinstance(tag, str) and _PREFIXED.fullmatch(tag) for tag in inside)


def spans_of_tags(tags: Sequence[Any], names: Sequence[str] = ()) -> list[Span]:
    """Return the spans that tags stand for.

    Args:
        tags: one for each word; numbers are places in `names`.
        names: what numbers stand for.

    Raises:
        MarkError: they are of no scheme that is known here.
    """
    named = [_named(tag, names) for tag in tags]
    bare = next((tag for tag in named if _BARE.fullmatch(tag)), None)
    if bare is not None:
        raise MarkError(f"the tag {bare!r} has no label behind its prefix")
    inside = [tag for tag in named if tag not in OUTSIDES]
    prefixed = [bool(_PREFIXED.fullmatch(tag)) for tag in inside]
    if any(prefixed) and not all(prefixed):
        wrong = inside[prefixed.index(False)]
        raise MarkError(f"the tag {wrong[:40]!r} is not O, B-label or I-label (nor E-, L-, M-, S- or U-label), as others are")
    return _of_prefixes(named) if any(prefixed) else _of_names(named)


def _named(tag: Any, names: Sequence[str]) -> str:
    if isinstance(tag, bool) or not isinstance(tag, (int, str)) or tag == "":
        raise MarkError(f"the tag {str(tag)[:40]!r} is no name and no number")
    if isinstance(tag, str):
        return tag
    if not names:
        raise MarkError(
            f"the tags are numbers ({tag}), and nothing says their names: write them in their order, "
            "data.columns.tags: [O, B-person, I-person]"
        )
    if not 0 <= tag < len(names):
        raise MarkError(f"the tag {tag} has no name: data.columns.tags has {len(names)}, from 0 to {len(names) - 1}")
    return names[tag]


def _of_prefixes(tags: Sequence[str]) -> list[Span]:
    spans: list[Span] = []
    going = False  # whether the last span may go on
    for place, tag in enumerate(tags):
        found = _PREFIXED.fullmatch(tag)
        if found is None:
            going = False
            continue
        kind, label = found.groups()
        goes_on = going and spans[-1].label == label
        if kind in _ENDS and not goes_on:
            raise MarkError(f"the tag {tag[:40]!r} of word {place + 1} ends a span that does not begin before it")
        if kind in _GOES_ON + _ENDS and goes_on:
            spans[-1] = spans[-1]._replace(end=place + 1)
        else:
            spans.append(Span(place, place + 1, label))
        going = kind in _BEGINS + _GOES_ON
    return spans


def _of_names(tags: Sequence[str]) -> list[Span]:
    """Words beside each other with one name are one span: two of them cannot be told apart without prefixes."""
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        if tag in OUTSIDES:
            continue
        if spans and spans[-1].end == place and spans[-1].label == tag:
            spans[-1] = spans[-1]._replace(end=place + 1)
        else:
            spans.append(Span(place, place + 1, tag))
    return spans
