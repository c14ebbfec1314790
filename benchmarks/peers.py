"""The peer of few labels: SetFit, from its own package with its defaults, on the same encoder."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import setfit as package
from datasets import Dataset, disable_progress_bars
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from sklearn.linear_model import LogisticRegression

from refsynth.core.types import IntArray

SETFIT_STEPS, BATCH = 400, 16


def sentence_encoder(folder: Path, longest: int) -> Any:
    """Return an encoder as sentence-transformers has it: the mean of the states, normalized."""
    words = Transformer(str(folder), max_seq_length=longest)
    return SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension(), "mean"), Normalize()], device="cpu")


def setfit(encoder: Path, texts: Sequence[str], classes: IntArray, test: Sequence[str], *, seed: int) -> IntArray:
    """Return SetFit's predictions for the test texts [N]: its defaults, and at most 400 contrastive steps.

    Args:
        encoder: folder of the encoder that it starts from.
        texts: labeled texts.
        classes: of the texts.
        test: texts to predict.
        seed: of its training.
    """
    disable_progress_bars()
    logging.getLogger("setfit").setLevel(logging.WARNING)
    body = sentence_encoder(encoder, 256)
    model = package.SetFitModel(model_body=body, model_head=LogisticRegression(max_iter=1000))
    rows = Dataset.from_dict({"text": list(texts), "label": [int(c) for c in classes]})
    same = int(sum(n * (n + 1) // 2 for n in np.bincount(classes)))
    other = len(texts) * (len(texts) + 1) // 2 - same
    pairs = 2 * max(same, other)  # its oversampling: as many pairs of one kind as of the other
    cap = {"max_steps": SETFIT_STEPS} if pairs / BATCH > SETFIT_STEPS else {}
    with tempfile.TemporaryDirectory() as work:
        arguments = package.TrainingArguments(
            output_dir=work, seed=seed, report_to="none", save_strategy="no", show_progress_bar=False, **cap
        )
        trainer = package.Trainer(model=model, args=arguments, train_dataset=rows)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # its bars and losses are not asked for
            trainer.train()
    return np.asarray(model.predict(list(test), as_numpy=True), int)
