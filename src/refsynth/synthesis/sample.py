"""Asking the reference: batch by batch, each on disk before the next is begun, nothing asked twice.

The journal holds one line per finished batch, under a key of everything that decides its content. A run that was killed reads
it, drops a torn last line and goes on; the drafts that it ends with are those of a run that was never killed.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.core.protocols import Generator
from refsynth.core.run import canonical, derive_seed, digest, write_atomic
from refsynth.core.types import Completion, Example, Provenance
from refsynth.synthesis.parse import parse_completion
from refsynth.synthesis.plan import Request

BATCH = 8
"""Prompts sent at once: enough to keep two workers busy, few enough that little is lost when a run is killed."""


class Synthesis(NamedTuple):
    """The drafts in plan order, and how many completions gave none, by reason."""

    drafts: tuple[Example, ...]
    rejected: Mapping[str, int]


class Batch(NamedTuple):
    """What is sent at once: requests that want the same number of drafts, and the sampling seed of all of them."""

    requests: tuple[Request, ...]
    seed: int

    def key(self, reference: str) -> str:
        """Return the hash of everything that decides the answer."""
        return digest([reference, self.seed, [[request.prompt.text, request.n] for request in self.requests]])


def synthesize(
    requests: Sequence[Request],
    generator: Generator,
    *,
    journal: Path,
    texts: Mapping[str, str],
    language: str,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Synthesis:
    """Return the drafts for the requests, taking from the journal what is there already.

    Args:
        requests: the plan.
        generator: who writes.
        journal: file of finished batches; made if absent, and left with the batches of this plan only, so that a seed example
            which was taken out leaves no trace.
        texts: the text of each seed example, by id.
        language: of the texts.
        seed: of the sampling.
        progress: called with the number of completions there are so far.
    """
    finished = dict(_read(journal))
    wanted: dict[str, list[list[Completion]]] = {}
    drafts: list[Example] = []
    rejected: Counter[str] = Counter()
    done = 0
    for batch in _batches(requests, seed):
        key = batch.key(generator.name)
        if key not in finished:
            finished[key] = generator.generate([each.prompt for each in batch.requests], n=batch.requests[0].n, seed=batch.seed)
            _append(journal, key, finished[key])
        wanted[key] = finished[key]
        _collect(batch, wanted[key], drafts, rejected, reference=generator.name, texts=texts, language=language)
        done += sum(map(len, wanted[key]))
        progress(done)
    write_atomic(journal, b"".join(_line(key, rows) for key, rows in wanted.items()))
    return Synthesis(tuple(drafts), dict(rejected))


def _batches(requests: Sequence[Request], seed: int) -> Iterator[Batch]:
    """Yield runs of at most `BATCH` requests that want the same number of drafts."""
    index = 0
    for _, same in itertools.groupby(requests, key=lambda request: request.n):
        while chunk := tuple(itertools.islice(same, BATCH)):
            yield Batch(chunk, derive_seed(seed, "sample", index))
            index += 1


def _line(key: str, rows: Sequence[Sequence[Completion]]) -> bytes:
    return canonical({"key": key, "completions": rows}) + b"\n"


def _append(journal: Path, key: str, rows: Sequence[Sequence[Completion]]) -> None:
    with journal.open("ab") as stream:
        stream.write(_line(key, rows))
        stream.flush()
        os.fsync(stream.fileno())


def _read(journal: Path) -> Iterator[tuple[str, list[list[Completion]]]]:
    """Yield the whole lines of the journal; cut off a torn tail."""
    if not journal.exists():
        return
    whole = 0
    with journal.open("rb") as stream:
        for line in stream:
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if record is None:
                break
            whole += len(line)
            yield record["key"], [[Completion(*pair) for pair in row] for row in record["completions"]]
    os.truncate(journal, whole)


def _collect(
    batch: Batch,
    rows: Sequence[Sequence[Completion]],
    drafts: list[Example],
    rejected: Counter[str],
    *,
    reference: str,
    texts: Mapping[str, str],
    language: str,
) -> None:
    """Add the drafts of a batch to `drafts` and the reasons for the rest to `rejected`."""
    for place, (request, completions) in enumerate(zip(batch.requests, rows, strict=True)):
        prompt = request.prompt
        shown = {" ".join(texts[row].split()) for row in prompt.shown}
        origin = Provenance(digest(prompt.text)[:16], prompt.shown, batch.seed, reference)
        for index, completion in enumerate(completions):
            text, reason = parse_completion(completion, shown=shown, language=language)
            if reason:
                rejected[reason] += 1
            else:
                name = f"draft-{digest([batch.seed, place, prompt.text])[:10]}-{index}"
                drafts.append(Example(name, text, prompt.label, origin))


def prompts_of(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Return each prompt once, as JSON-ready values, under the name that provenance gives it."""
    unique = {digest(request.prompt.text)[:16]: request.prompt for request in requests}
    return [
        {"prompt": name, "label": prompt.label, "shown": list(prompt.shown), "text": prompt.text}
        for name, prompt in unique.items()
    ]
