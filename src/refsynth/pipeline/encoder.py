"""The encoder that a run starts from: the embedded one of the language, a multilingual one pruned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refsynth.compress.prune import prune_vocabulary
from refsynth.core.run import RunFolder, digest
from refsynth.models.catalog import encoder_for
from refsynth.models.manifest import model_hash
from refsynth.models.store import ModelStore
from refsynth.pipeline.rows import Rows
from refsynth.task import Task

MULTILINGUAL = "multilingual"


def prepare_encoder(task: Task, rows: Rows, store: ModelStore, folder: RunFolder, texts: Sequence[str] = ()) -> Path:
    """Return the folder of the encoder; `texts` are what it will read beside the rows.

    The vocabulary is pruned before training, not after: training is faster with fewer embeddings, and what is shipped has
    been trained and measured with the very tokenizer that it ships with.
    """
    spec = encoder_for(rows.language)
    ready = store.path(spec.name)
    if spec.language != MULTILINGUAL:
        return ready
    read = [*(example.text for example in rows.examples), *task.descriptions.values(), *texts]
    key = {"rows": folder.hash_of("rows"), "labels": task.config.labels, "model": model_hash(ready)}
    if texts:
        key["texts"] = digest(list(texts))

    def make(out: Path) -> None:
        prune_vocabulary(ready, out / "model", read, prefix=spec.prefix)

    return folder.step("encoder", key, make) / "model"
