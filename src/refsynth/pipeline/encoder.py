"""The encoder that a run starts from: the one embedded for its language, or a pruned multilingual one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from refsynth.compress.prune import prune_vocabulary
from refsynth.core.hashes import digest
from refsynth.core.run import RunFolder
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.data.language import UNKNOWN
from refsynth.learning.rows import Rows
from refsynth.models.encoders import encoder_for
from refsynth.models.manifest import model_hash
from refsynth.models.store import ModelStore
from refsynth.synthesis.prompts import can_write, known_only


def language_notes(task: Task, language: str) -> Iterator[str]:
    """Yield a note on what a detected language changes: the encoder, and whether drafts are written."""
    if task.config.language != "auto" or not encoder_for(language).multilingual:
        return
    if language == UNKNOWN:
        yield "no language stands out, so the slower multilingual encoder is used. If the texts are English, set language: en"
        return
    writer = f"the reference '{task.config.reference_spec.name}' writes {known_only(task)}"
    drafts = "" if can_write(task, language) else f", and no drafts are written, since {writer}"
    yield f"the language seems to be '{language}', so the slower multilingual encoder is used{drafts}. If not, set language"


def prepare_encoder(task: Task, rows: Rows, store: ModelStore, folder: RunFolder, texts: Sequence[str] = ()) -> Path:
    """Return the folder of the encoder; `texts` are what it will read in addition to the rows.

    The vocabulary is pruned before training, not after: training is faster with fewer embeddings, and the shipped model has been
    trained and measured with the very tokenizer that it ships with.
    """
    spec = encoder_for(rows.language)
    ready = store.path(spec.name)
    if not spec.multilingual:
        return ready
    read = [*(example.text for example in rows.examples), *task.descriptions.values(), *texts]

    def make(out: Path) -> None:
        prune_vocabulary(ready, out / "model", read, prefix=spec.prefix)

    extra = {"model": model_hash(ready), "texts": digest(list(texts))}
    return folder.step(STEPS["encoder"], make, config=settings_of(task.config), extra=extra) / "model"
