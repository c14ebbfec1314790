"""Turns real rows into augmented drafts: asks each augmenter, shares the quota among them and records provenance."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from refsynth.core.hashes import derive_seed, digest
from refsynth.core.protocols import Augmenter
from refsynth.core.types import Example, Provenance
from refsynth.data.text import clean


class Augmented(NamedTuple):
    """The drafts in the order of the rows, and the records that stand for their prompts: the text of each row."""

    drafts: tuple[Example, ...]
    prompts: tuple[dict[str, Any], ...]


def augment_rows(rows: Sequence[Example], augmenters: Sequence[Augmenter], *, copies: int, seed: int) -> Augmented:
    """Return drafts that are changed copies of rows. Provenance names the row as shown, so that both are held out together.

    Args:
        rows: real rows [N].
        augmenters: alternate, so that each gets its part of a row's quota.
        copies: most drafts of one row, over all augmenters.
        seed: of the run.
    """
    texts = [row.text for row in rows]
    seeds = {augmenter.name: derive_seed(seed, "augment", augmenter.name) for augmenter in augmenters}
    made = [augmenter.augment(texts, n=copies, seed=seeds[augmenter.name]) for augmenter in augmenters]
    drafts: list[Example] = []
    prompts: list[dict[str, Any]] = []
    for row, *answers in zip(rows, *made, strict=True):
        name = digest(row.text)[:16]
        origins: dict[str, str] = {}
        for turn in itertools.zip_longest(*answers):
            for augmenter, text in zip(augmenters, turn, strict=True):
                origins.setdefault(clean(text or ""), augmenter.name)
        for index, text in enumerate(distinct(row.text, origins, n=copies)):
            origin = Provenance(name, (row.id,), seeds[origins[text]], origins[text], reworded=True)
            drafts.append(Example(f"draft-{digest([seed, 'augment', row.id])[:10]}-{index}", text, row.label, origin))
        if origins.keys() - {""}:
            prompts.append({"prompt": name, "label": row.label, "shown": [row.id], "text": row.text})
    return Augmented(tuple(drafts), tuple(prompts))


def distinct(text: str, candidates: Iterable[str], *, n: int) -> list[str]:
    """Return the first `n` candidates that differ from the text and from one another in more than white space."""
    seen = {clean(text), ""}
    fresh: list[str] = []
    for candidate in map(clean, candidates):
        if len(fresh) == n:
            break
        if candidate not in seen:
            fresh.append(candidate)
        seen.add(candidate)
    return fresh
