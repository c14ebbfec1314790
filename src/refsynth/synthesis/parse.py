"""Parses a completion into the text of a draft, or into the reason why it gives none."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from refsynth.core.types import Completion
from refsynth.data.quote import neutralize
from refsynth.models.reference.answer import is_preamble, is_refusal

EMPTY = "empty"
REFUSED = "refused"
UNWRITTEN = "not written"
CUT_OFF = "cut off by the token limit"
ECHO = "repeats the prompt"
LANGUAGE = "wrong script"

_SENTENCE_END = re.compile(r"[.!?。！？…]['\"”’)]*(?=\s|$)|[。！？]")
_HAN = re.compile(r"[㐀-鿿豈-﫿]")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "《": "》"}


class Parsed(NamedTuple):
    """The text of a draft, or an empty text and the reason why there is none."""

    text: str
    reason: str | None


def parse_completion(completion: Completion, *, shown: Collection[str], language: str) -> Parsed:
    """Return the first item of a completion, without list markers and enclosing quotes.

    A completion that reached the token limit is cut back to its last whole sentence, and rejected if it has none. An
    introduction such as `Sure! Here are some:` is skipped. A refusal to write is rejected.

    Args:
        completion: what the reference wrote after the prompt's last list marker.
        shown: the example texts in the prompt.
        language: ISO 639-1 code. For `zh` a text without Chinese characters is rejected.
    """
    if completion.refused:
        return Parsed("", REFUSED)
    head, _, rest = completion.text.lstrip().partition("\n")
    if is_preamble(head):
        head, _, rest = rest.lstrip().partition("\n")
    text = _unquote(neutralize(head))
    if is_refusal(text):
        return Parsed("", REFUSED)
    if not completion.finished and not rest:
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        if not ends:
            return Parsed("", CUT_OFF if text else EMPTY)
        text = text[: ends[-1]]
    if not any(character.isalnum() for character in text):
        return Parsed("", EMPTY)
    if language == "zh" and not _HAN.search(text):
        return Parsed("", LANGUAGE)
    if text in shown:
        return Parsed("", ECHO)
    return Parsed(text, None)


def _unquote(text: str) -> str:
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text
