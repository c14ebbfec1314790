"""The peers: SetFit, from its own package with its defaults, on the same encoder; and full fine-tuning."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from refsynth.core.extras import require
from refsynth.core.types import IntArray

SETFIT_STEPS = 400


def setfit(encoder: Path, texts: Sequence[str], classes: IntArray, test: Sequence[str], *, seed: int) -> IntArray:
    """Return SetFit's predictions for the test texts [N]: its defaults, and at most 400 contrastive steps.

    Args:
        encoder: folder of the encoder that it starts from.
        texts: labelled texts.
        classes: of the texts.
        test: texts to predict.
        seed: of its training.
    """
    package = require("setfit", extra="dev")
    sentence = require("sentence_transformers", extra="train")
    from datasets import Dataset, disable_progress_bars
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    disable_progress_bars()
    logging.getLogger("setfit").setLevel(logging.WARNING)
    words = Transformer(str(encoder), max_seq_length=256)
    body = sentence.SentenceTransformer(
        modules=[words, Pooling(words.get_embedding_dimension(), "mean"), Normalize()], device="cpu"
    )
    from sklearn.linear_model import LogisticRegression

    model = package.SetFitModel(model_body=body, model_head=LogisticRegression(max_iter=1000))
    rows = Dataset.from_dict({"text": list(texts), "label": [int(c) for c in classes]})
    with tempfile.TemporaryDirectory() as work:
        counts = np.bincount(classes)
        same = int(sum(n * (n + 1) // 2 for n in counts))
        other = len(texts) * (len(texts) + 1) // 2 - same
        pairs = 2 * max(same, other)  # its oversampling: as many pairs of one kind as of the other
        cap = {"max_steps": SETFIT_STEPS} if pairs / 16 > SETFIT_STEPS else {}
        arguments = package.TrainingArguments(
            output_dir=work, seed=seed, report_to="none", save_strategy="no", show_progress_bar=False, **cap
        )
        trainer = package.Trainer(model=model, args=arguments, train_dataset=rows)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # its bars and losses are not asked for
            trainer.train()
    return np.asarray(model.predict(list(test), as_numpy=True), int)
