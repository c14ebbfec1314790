"""How fast does fine-tuning go: how many times as fast as the trainer of transformers at its defaults, on the same network?

Both train the same encoder and head for the same epochs on the same rows, with the same learning rates, threads and longest text.
The peer has what it does if nothing is said: batches of 8 rows in random order, float32, attention by the fused kernel; its rows
are padded to the maximum, as its guide does. A second arm of it pads each batch to its longest row, and a third does so with
batches of our size. Sides take turns, so that the load of the machine falls on all.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from benchmarks.bench import Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_least, figure, markdown, means, ranged
from benchmarks.sets import Sample, read_sample
from benchmarks.suite import cell
from refsynth.core.types import IntArray
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.objective import SCALE
from refsynth.learning.tuning.schedule import HEAD_RATE
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.encoders import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.seeding import seeded
from refsynth.models.store import ModelStore

BUDGET = 25
TIMED = True
SETS = ("ag_news_test", "snips")
TEST_ROWS, EPOCHS = 200, 3
RATE = 5e-5
MAX_TOKENS = 128
OURS, THEIRS = "refsynth", "transformers.Trainer"
PADDED, LARGER = "transformers.Trainer, padded by batch", "transformers.Trainer, padded by batch, batches of 16"
FLOOR, AIM = 2.0, 3.5
NOISE = 2.0
"""Points of accuracy that ours may be behind in the mean."""


class Size(NamedTuple):
    """How much is measured: sets, repeats, and labeled rows per class."""

    sets: tuple[str, ...]
    repeats: int
    shots: int


WHOLE, QUICK = Size(SETS, 5, 32), Size(SETS[:1], 2, 12)


def cells(options: Options) -> Iterator[Work]:
    """Yield the repeats, the sides in turn in this process."""
    size = QUICK if options.quick else WHOLE
    for name in options.parts(SETS, quick=size.sets):
        for seed in range(options.seeds or size.repeats):
            key = {"set": name, "seed": seed, "shots": size.shots}
            yield Work(key, partial(_turn, options.data, name, seed, size.shots), tuple(SIDES), turns=True)


def _turn(data: Path, name: str, seed: int, shots: int) -> Iterator[Cell]:
    import transformers

    _ = transformers.Trainer  # loaded when it is first named, which is not training
    sample = read_sample(data, name, shots=shots, seed=seed, test_rows=TEST_ROWS)
    spec = encoder_for("en")
    encoder = TransformerEncoder(ModelStore().path(spec.name), prefix=spec.prefix, max_tokens=MAX_TOKENS)
    for system in SIDES if seed % 2 else reversed(SIDES):
        yield _timed(system, encoder, sample, seed)


def _timed(system: str, encoder: TransformerEncoder, sample: Sample, seed: int) -> Cell:
    started, spent = time.monotonic(), time.process_time()
    said = SIDES[system](encoder, sample, seed)
    seconds, spent = time.monotonic() - started, time.process_time() - spent
    classes = said()  # asking the test rows is not training
    return cell(system, sample.truth, classes, seconds, len(sample.labels)) | {
        "cpu_seconds": round(spent, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def _ours(encoder: TransformerEncoder, sample: Sample, seed: int) -> Callable[[], IntArray]:
    learner = FinetuneLearner(tuple(sample.labels), encoder, recipe=TrainingRecipe(epochs=EPOCHS, learning_rate=RATE))
    predictor = learner.fit(sample.examples, (), seed=seed)
    return lambda: np.asarray(predictor.logits(sample.texts)).argmax(1)


class _Classifier(torch.nn.Module):
    """The same network as the peer wants it: a loss from padded rows."""

    def __init__(self, encoder: TransformerEncoder, k: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, torch.nn.Linear(encoder.dimension, k)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss of padded rows [N, T]."""
        states = self.encoder.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)
        logits = self.head(torch.nn.functional.dropout(SCALE * pooled, 0.1, training=self.training))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def _theirs(
    encoder: TransformerEncoder, sample: Sample, seed: int, *, pad: Literal["max_length", "longest"], batch: int = 8
) -> Callable[[], IntArray]:
    import transformers

    with seeded(seed):
        network = _Classifier(copy.deepcopy(encoder), len(sample.labels))
    network.encoder.transformer.set_attn_implementation("sdpa")  # as a model has it that is loaded without a word
    ids = network.encoder.tokenize([row["text"] for row in sample.train])
    classes = sample.classes(sample.train)
    rows = [{"input_ids": row, "labels": int(label)} for row, label in zip(ids, classes, strict=True)]
    groups = [{"params": network.encoder.parameters(), "lr": RATE}, {"params": network.head.parameters(), "lr": HEAD_RATE}]
    with tempfile.TemporaryDirectory() as work:
        arguments = transformers.TrainingArguments(
            output_dir=work,
            num_train_epochs=EPOCHS,
            seed=seed,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            per_device_train_batch_size=batch,
        )
        optimiser = torch.optim.AdamW(groups, fused=True)  # as is its default
        collator = transformers.DataCollatorWithPadding(network.encoder.tokenizer, padding=pad, max_length=MAX_TOKENS)
        trainer = transformers.Trainer(
            model=network, args=arguments, train_dataset=rows, data_collator=collator, optimizers=(optimiser, None)
        )
        trainer.train()
    network.eval()

    def said() -> IntArray:
        features = torch.from_numpy(SCALE * network.encoder.encode(sample.texts))
        with torch.inference_mode():
            return np.asarray(network.head(features).argmax(1).numpy())

    return said


SIDES: dict[str, Callable[[TransformerEncoder, Sample, int], Callable[[], IntArray]]] = {
    OURS: _ours,
    THEIRS: partial(_theirs, pad="max_length"),
    PADDED: partial(_theirs, pad="longest"),
    LARGER: partial(_theirs, pad="longest", batch=TrainingRecipe().batch_size),
}
"""Each trains on a sample and returns who classifies the test rows."""


def table(cells: Cells) -> str:
    """Return seconds, accuracies and ratios."""
    head = ["set", "side", "seconds", "accuracy", "times ours, wall [least-most]", "times ours, processor [least-most]"]
    rows = []
    for name, system in product(SETS, SIDES):
        if pairs := _pairs(cells, system, name):
            seconds, points = (np.mean([other[key] for _, other in pairs]) for key in ("seconds", "accuracy"))
            ratios = [ranged([other[key] / ours[key] for ours, other in pairs]) for key in ("seconds", "cpu_seconds")]
            rows.append([name, system, f"{seconds:.1f}", f"{100 * points:.1f}", *ratios])
    return markdown(head, rows)


def checks(cells: Cells) -> list[Check]:
    """Return the speed and the accuracy against the trainer of transformers as it comes."""
    pairs = _pairs(cells, THEIRS)
    speed = figure([other["seconds"] / ours["seconds"] for ours, other in pairs], "times", over="repeats", statistic=np.median)
    gaps = means((ours["seed"], 100 * (ours["accuracy"] - other["accuracy"])) for ours, other in pairs)
    return [
        at_least("times as fast as transformers.Trainer, median", speed, FLOOR, AIM),
        at_least("accuracy over transformers.Trainer", figure(gaps, "points", over="repeats"), -NOISE, 0.0),
    ]


def _pairs(cells: Cells, system: str, name: str | None = None) -> list[tuple[Cell, Cell]]:
    """Return our cell and another side's of each repeat that has both."""
    where = {} if name is None else {"set": name}
    keys = [{key: one[key] for key in ("set", "seed", "shots", "version")} for one in cells.find(system=OURS, **where)]
    found = [(cells.find(system=OURS, **key), cells.find(system=system, **key)) for key in keys]
    return [(ours[-1], other[-1]) for ours, other in found if other]
