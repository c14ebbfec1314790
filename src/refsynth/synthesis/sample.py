"""Asking the reference: batch by batch, each on disk before the next is begun, nothing asked twice.

A run that was killed finds its finished batches in the ledger and goes on; the drafts that it ends with are those of a run that
was never killed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.core.protocols import Chatting, Generator
from refsynth.core.run import Json, derive_seed, digest
from refsynth.core.types import Completion, Example, Provenance
from refsynth.models.reference import BudgetError, PartialAnswerError
from refsynth.synthesis.ledger import Ledger
from refsynth.synthesis.parse import REFUSED, UNWRITTEN, parse_completion
from refsynth.synthesis.plan import Request

BATCH = 8
"""Prompts sent at once: enough to keep two workers busy, few enough that little is lost when a run is killed."""


class Synthesis(NamedTuple):
    """The drafts in plan order, how many completions gave none, by reason, and whether the request budget ended it early."""

    drafts: tuple[Example, ...]
    rejected: Mapping[str, int]
    stopped: bool


class RequestBatch(NamedTuple):
    """What is sent at once: requests that want the same number of drafts, and the sampling seed of all of them."""

    requests: tuple[Request, ...]
    seed: int

    def key(self, reference: str) -> str:
        """Return the hash of everything that decides the answer; `reference` names the model and its decoding."""
        return digest([reference, self.seed, [_identity(request) for request in self.requests]])


def _identity(request: Request) -> list[Json]:
    """Return what decides the answer to a request."""
    prompt = request.prompt
    return [prompt.text, request.n, prompt.chat] if prompt.chat else [prompt.text, request.n]


def as_read(requests: Sequence[Request], generator: Generator) -> list[Request]:
    """Return the requests with the chat form of prompts only where the generator reads it."""
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
    """Return the drafts for the requests, taking from the journal what is there already.

    Args:
        requests: the plan, as `as_read` gives it.
        generator: who writes.
        decoding: its settings, as JSON: drafts made with others are not taken from the journal.
        journal: file of finished batches; made if absent, and left with the batches of this plan only, so that a seed example
            which was taken out leaves no trace.
        texts: the text of each seed example, by id.
        language: of the texts.
        seed: of the sampling.
        rewarded_by: ids of the rows whose loss the generator was trained to lower.
        progress: called with the number of completions there are so far.

    Raises:
        EndpointError: an endpoint fails; what it answered before is in the journal.
    """
    ledger = Ledger(journal)
    reference = digest([generator.name, decoding])
    wanted: list[str] = []
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
        wanted.append(key)
        origin = Provenance("", (), batch.seed, generator.name, rewarded_by)
        _collect(batch, rows, drafts, rejected, origin=origin, texts=texts, language=language)
        done += sum(map(len, rows))
        progress(done)
    ledger.keep(wanted)
    return Synthesis(tuple(drafts), dict(rejected), stopped)


def _ask(batch: RequestBatch, generator: Generator, ledger: Ledger, key: str) -> list[list[Completion]]:
    """Ask for what the ledger lacks of a batch, and enter the answers, also those of a call that fails midway."""
    answered = ledger.begun(key)
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
    """Yield runs of at most `BATCH` requests that want the same number of drafts."""
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
    """Add the drafts of a batch to `drafts`, their origin with the prompt in it, and the reasons for the rest to `rejected`."""
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
    """Return each prompt once, as JSON-ready values, under the name that provenance gives it."""
    unique = {digest(request.prompt.text)[:16]: request.prompt for request in requests}
    return [
        {"prompt": name, "label": prompt.label, "shown": list(prompt.shown), "text": prompt.text}
        | ({"chat": prompt.chat} if prompt.chat else {})
        for name, prompt in unique.items()
    ]
