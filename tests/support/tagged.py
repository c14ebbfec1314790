"""Texts in which words have labels."""

import random

from refsynth.core.marks import read_marks, spans_in
from refsynth.core.spans import join_spans
from refsynth.core.types import Example


def tree(**changes):
    return {"task": "tokens", "labels": {"person": "people", "place": "places"}, "data": {"train": "a"}} | changes


NAMES, PLACES = ["ann", "bo", "cy", "dora"], ["oslo", "rome", "lima"]


def texts(n, seed=0, *, long=False):
    """Marked texts; `long` ones have entities of two words, which the words of the echo would not come out of whole."""
    rng = random.Random(seed)
    for _ in range(n):
        who, where = rng.choice(NAMES) + " lee" * (long and rng.random() < 0.5), rng.choice(PLACES) + " bay" * long
        yield (
            rng.choice(
                [
                    f"[{who}](person) sat in [{where}](place)",
                    f"see [{who}](person) eat",
                    "no one at all",
                    f"to [{where}](place) !",
                ]
            )
            + f" {rng.randint(0, 999)}"
        )


def example(number, text):
    marked = read_marks(text)
    return Example(f"row-{number}", marked.text, join_spans(spans_in(marked.text, marked.places).spans))
