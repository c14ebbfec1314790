"""Asks the reference batch by batch. Each batch is on disk before the next starts, and nothing is asked twice.

A killed run finds its finished batches in the ledger and continues; it ends with the same drafts as a run that was never killed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.core.files import Json
from refsynth.core.hashes import derive_seed, digest
from refsynth.core.protocols import Chatting, Generator
from refsynth.core.types import Completion, Example, Provenance
from refsynth.models.reference import BudgetError, PartialAnswerError
from refsynth.synthesis.ledger import Ledger
from refsynth.synthesis.parse import REFUSED, UNWRITTEN, parse_completion
from refsynth.synthesis.plan import Request

BATCH = 8
"""Prompts per batch: enough to keep two workers busy, and few enough that a killed run loses little."""


class Synthesis(NamedTuple):
    """The drafts in plan order, the number of rejected completions by reason, and whether the request budget ran out."""

    drafts: tuple[Example, ...]
    rejected: Mapping[str, int]
    stopped: bool


class RequestBatch(NamedTuple):
    """Requests that are sent together: they ask for the same number of drafts and share a sampling seed."""

    requests: tuple[Request, ...]
    seed: int

    def key(self, reference: str) -> str:
        """Return the hash of everything that decides the answer; `reference` names the model and its decoding."""
        requests = [
            [request.prompt.text, request.n, *([request.prompt.chat] if request.prompt.chat else [])] for request in self.requests
        ]
        return digest([reference, self.seed, requests])


def for_generator(requests: Sequence[Request], generator: Generator) -> list[Request]:
    """Return the requests; their prompts keep the chat form only if the generator reads it."""
    if isinstance(generator, Chatting) and generator.chats:
        return list(requests)
    return [replace(request, prompt=replace(request.prompt, chat="")) for request in requests]


def synthesize(
    requests: Sequence[Request],
    generator: Generator,
    *,
    decoding: Json,
    journal: Path,
    texts: Mapping[str, str],
    language: str,
    seed: int,
    rewarded_by: tuple[str, ...] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Synthesis:
    """Return the drafts for the requests. Answers that the journal holds are not asked for again.

    Args:
        requests: the plan, as `for_generator` returns it.
        generator: writes the drafts.
        decoding: the generator's settings as JSON. Answers made with other settings are not reused.
        journal: the file of finished batches, created if absent. In the end it holds only the batches of this plan, so that a
            removed seed example leaves no trace.
        texts: the text of each seed example, by id.
        language: of the texts.
        seed: of the sampling.
        rewarded_by: ids of the rows whose loss the generator was trained to lower.
        progress: called with the number of completions so far.

    Raises:
        EndpointError: An endpoint fails. The journal keeps what it answered before.
    """
    ledger = Ledger(journal)
    reference = digest([generator.name, decoding])
    keys: list[str] = []
    drafts: list[Example] = []
    rejected: Counter[str] = Counter()
    done, stopped = 0, False
    for batch in _batches(requests, seed):
        key = batch.key(reference)
        try:
            rows = ledger.answers(key) or _ask(batch, generator, ledger, key)
        except BudgetError:
            if not drafts:
                raise
            stopped = True
            break
        keys.append(key)
        origin = Provenance("", (), batch.seed, generator.name, rewarded_by)
        _collect(batch, rows, drafts, rejected, origin=origin, texts=texts, language=language)
        done += sum(map(len, rows))
        progress(done)
    ledger.keep(keys)
    return Synthesis(tuple(drafts), dict(rejected), stopped)


def _ask(batch: RequestBatch, generator: Generator, ledger: Ledger, key: str) -> list[list[Completion]]:
    """Ask for the answers of a batch that the ledger lacks, and store them; if a call fails midway, store what it gave."""
    answered = ledger.partial(key)
    open_places = [place for place in range(len(batch.requests)) if place not in answered]
    prompts = [batch.requests[place].prompt for place in open_places]
    try:
        rows = generator.generate(prompts, n=batch.requests[0].n, seed=batch.seed)
    except PartialAnswerError as error:
        ledger.enter(key, answered | {open_places[place]: row for place, row in error.answered.items()}, whole=False)
        raise
    answered |= dict(zip(open_places, rows, strict=True))
    ledger.enter(key, answered, whole=True)
    return [answered[place] for place in range(len(batch.requests))]


def _batches(requests: Sequence[Request], seed: int) -> Iterator[RequestBatch]:
    """Yield consecutive requests, at most `BATCH` at a time, that ask for the same number of drafts."""
    index = 0
    for _, same in itertools.groupby(requests, key=lambda request: request.n):
        while chunk := tuple(itertools.islice(same, BATCH)):
            yield RequestBatch(chunk, derive_seed(seed, "sample", index))
            index += 1


def _collect(
    batch: RequestBatch,
    rows: Sequence[Sequence[Completion]],
    drafts: list[Example],
    rejected: Counter[str],
    *,
    origin: Provenance,
    texts: Mapping[str, str],
    language: str,
) -> None:
    """Add the drafts of a batch to `drafts`, and count the completions that gave none in `rejected`, by reason."""
    for place, (request, completions) in enumerate(zip(batch.requests, rows, strict=True)):
        prompt = request.prompt
        shown = {" ".join(texts[row].split()) for row in prompt.shown}
        origin = replace(origin, prompt=digest(prompt.text)[:16], shown=prompt.shown, reworded=prompt.rewords)
        for index, completion in enumerate(completions):
            text, reason = parse_completion(completion, shown=shown, language=language)
            if reason:
                rejected[reason] += 1
            else:
                name = f"draft-{digest([batch.seed, place, prompt.text])[:10]}-{index}"
                drafts.append(Example(name, text, prompt.label, origin))
        if short := max(0, request.n - len(completions)):  # a chat model that gave fewer, or none
            rejected[REFUSED if completions and completions[-1].refused else UNWRITTEN] += short


def prompts_of(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Return each distinct prompt as JSON-ready values, under the name by which provenance refers to it."""
    unique = {digest(request.prompt.text)[:16]: request.prompt for request in requests}
    return [
        {"prompt": name, "label": prompt.label, "shown": list(prompt.shown), "text": prompt.text}
        | ({"chat": prompt.chat} if prompt.chat else {})
        for name, prompt in unique.items()
    ]
