"""Converts the tags of words to spans, for the common tagging schemes. Knows nothing of texts or files.

The schemes are IOB1 and IOB2 (an `I-` that continues no span begins one, as in conlleval), BIOES, BILOU, BMES, and names
without prefixes (IO).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from refsynth.core.marks import MarkError
from refsynth.core.spans import Span

OUTSIDES = ("O", "o", "_")
"""Tags of a word outside all spans; `_` is CoNLL-U's empty value."""

_PREFIXED = re.compile(r"([BIMELSU])[-_](.+)")
_BARE = re.compile(r"[BIMELSU][-_]")
_BEGIN, _CONTINUE, _END = "B", "IM", "EL"


def is_scheme(tags: Sequence[Any]) -> bool:
    """Return whether tags clearly follow a scheme with prefixes: each is outside or prefixed, and at least one is prefixed."""
    inside = [tag for tag in tags if tag not in OUTSIDES]
    return bool(inside) and all(isinstance(tag, str) and _PREFIXED.fullmatch(tag) for tag in inside)


def spans_of_tags(tags: Sequence[Any], names: Sequence[str] = ()) -> list[Span]:
    """Return the spans of the tags.

    Args:
        tags: one for each word; a number is an index into `names`.
        names: the names of numbered tags.

    Raises:
        MarkError: the tags follow no known scheme.
    """
    named = [_named(tag, names) for tag in tags]
    bare = next((tag for tag in named if _BARE.fullmatch(tag)), None)
    if bare is not None:
        raise MarkError(f"the tag {bare!r} has no label after its prefix")
    inside = [tag for tag in named if tag not in OUTSIDES]
    prefixed = [bool(_PREFIXED.fullmatch(tag)) for tag in inside]
    if any(prefixed) and not all(prefixed):
        wrong = inside[prefixed.index(False)]
        raise MarkError(f"the tag {wrong[:40]!r} is not O, B-label or I-label (nor E-, L-, M-, S- or U-label), unlike the others")
    return _prefixed_spans(named) if any(prefixed) else _bare_spans(named)


def _named(tag: Any, names: Sequence[str]) -> str:
    if isinstance(tag, bool) or not isinstance(tag, (int, str)) or tag == "":
        raise MarkError(f"the tag {str(tag)[:40]!r} is neither a name nor a number")
    if isinstance(tag, str):
        return tag
    if not names:
        raise MarkError(
            f"the tags are numbers ({tag}) without names: give the names in order, data.columns.tags: [O, B-person, I-person]"
        )
    if not 0 <= tag < len(names):
        raise MarkError(f"the tag {tag} has no name: data.columns.tags has {len(names)}, from 0 to {len(names) - 1}")
    return names[tag]


def _prefixed_spans(tags: Sequence[str]) -> list[Span]:
    spans: list[Span] = []
    is_open = False  # whether the last span may continue
    for place, tag in enumerate(tags):
        match = _PREFIXED.fullmatch(tag)
        if match is None:
            is_open = False
            continue
        prefix, label = match.groups()
        continues = is_open and spans[-1].label == label
        if prefix in _END and not continues:
            raise MarkError(f"the tag {tag[:40]!r} of word {place + 1} ends a span that does not begin before it")
        if prefix in _CONTINUE + _END and continues:
            spans[-1] = spans[-1]._replace(end=place + 1)
        else:
            spans.append(Span(place, place + 1, label))
        is_open = prefix in _BEGIN + _CONTINUE
    return spans


def _bare_spans(tags: Sequence[str]) -> list[Span]:
    """Adjacent words with the same name form one span: without prefixes, two spans look like one."""
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        if tag in OUTSIDES:
            continue
        if spans and spans[-1].end == place and spans[-1].label == tag:
            spans[-1] = spans[-1]._replace(end=place + 1)
        else:
            spans.append(Span(place, place + 1, tag))
    return spans
