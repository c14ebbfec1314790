"""Prepares user text for a prompt: without markup, and short."""

from __future__ import annotations

import re

from refsynth.core.pair import join_pair, split_pair

SHOWN_WORDS = 30
"""Most words of an example in a prompt. Each word is attended to again for every generated token (abstracts: 2.4 times the rows
per second of 60 words), and long examples teach the model to ramble."""

_CONTROL_TOKEN = re.compile(r"<\|[^<>|]{0,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
_LIST_MARKER = re.compile(r"^(?:[-*•>#]+|\d{1,3}[.)])\s+")


def neutralize(text: str) -> str:
    """Return the text on one line, without chat-template tokens and without a list marker at its start."""
    previous = None
    while previous != text:  # removing a token may join the halves of another
        previous, text = text, _CONTROL_TOKEN.sub(" ", text)
    return _LIST_MARKER.sub("", " ".join(text.split()))


def shorten(text: str, *, words: int = SHOWN_WORDS) -> str:
    """Return the text, or each half of a pair, cut after `words` words and after 8 times as many characters."""
    if halves := split_pair(text):
        return join_pair(*(shorten(half, words=words) for half in halves))
    return " ".join(text.split(" ")[:words])[: 8 * words]
