"""The sections of the configuration, one per stage: every key with its default, bounds and meaning.

Those about drafts are in `core.drafting`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from refsynth.core.value import spell
from refsynth.core.windows import LONGEST, Windows

DeviceName = Literal["auto", "cpu", "cuda"]

TrackerName = Literal["tensorboard", "wandb", "mlflow"]


def _spelled(value: Any) -> Any:
    """Return a label as data files spell it. YAML's own yes and no stay truth values, and are refused."""
    return value if isinstance(value, bool) else spell(value) or value


Name = Annotated[str, Field(min_length=1), BeforeValidator(_spelled)]
"""A name that YAML may read as a number and data files read as text, such as the label `1`."""

Quoting = Literal["standard", "none"]
"""Whether a quote at the start of a field encloses it, even over several lines; or each line is a row."""


class FileFormat(TypedDict, total=False):
    """The format of a data file as the user sets it; None, or left out, if it is to be detected.

    `delimiter` and `quoting` are for CSV, `encoding` for text files, `sheet` for a workbook, by default the first visible one.
    """

    delimiter: str | None
    encoding: str | None
    quoting: Quoting | None
    sheet: str | None


JOINED = " + "
"""Joins the names of columns that are read as one."""


def parts_of(column: str) -> tuple[str, ...]:
    """Return the columns that a column name joins; the name itself if it joins none."""
    return tuple(part.strip() for part in column.split(JOINED))


def _one_name(value: Any) -> Any:
    return JOINED.join(map(str, value)) if isinstance(value, list | tuple) and value else value


Column = Annotated[str, BeforeValidator(_one_name)]
"""A column's name. A list of names is one column made of them, written `a + b`."""


class Section(BaseModel):
    """A part of the tree: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Section):
    """Which columns of a data file hold what."""

    text: Column = "text"
    """Column of the text; a list of columns makes one text of them, with a blank line between."""
    label: Column = "label"
    """Column of the label; a list of yes/no (0 and 1) columns names the labels that a text has."""
    pair: Column | None = None
    """Column of the second text, for `task: pairs`; its default there is `text_pair`."""
    id: str | None = None
    """Column of your own id of a row, to find it again. Default: `id`, if the file has it."""
    weight: str | None = None
    """Column of the number of rows that a row counts for in training. Default: each row counts for one."""
    tags: tuple[Name, ...] = ()
    """For `task: tokens`: the names of tags that the file has as numbers, in order, such as `[O, B-person, I-person]`."""
    offsets: Literal["characters", "utf16", "bytes"] | None = None
    """For `task: tokens`: the unit of span offsets. Default: the spans' own texts decide; without them, characters."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of the text: one, or two for a pair."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


FILES = ("train", "more", "pool", "test", "none")
"""The keys of `DataConfig` that name files."""


class DataConfig(Section):
    """The user's files. Relative paths are read from the folder of task.yaml."""

    train: Path | None = None
    """Labeled rows (CSV, TSV, JSONL, Parquet or Excel). Without them only the labels' descriptions are used."""
    more: Path | None = None
    """Further labeled rows (JSONL), to which `refsynth label add` appends. The file need not exist yet."""
    pool: Path | None = None
    """Unlabeled texts for self-training and pretraining; a `.txt` has one per line."""
    test: Path | None = None
    """Labeled rows to measure on. Test rows decide one thing: drafts and pool texts that resemble one are taken out."""
    none: Path | tuple[str, ...] | None = None
    """Texts that none of the labels fits, a file or a list. Similar texts are marked. Labels in the file are not read."""
    columns: Columns = Columns()
    """Column names, the same in all files."""
    delimiter: str | None = None
    """Field delimiter of the CSV files. Default: detected for each file."""
    encoding: str | None = None
    """Text encoding of the files, except `data.more`, which is UTF-8. Default: detected for each file."""
    quoting: Quoting | None = None
    """Quoting of CSV: `standard`, or `none` if quotes are plain characters and each line is a row. Default: detected."""
    sheet: str | None = None
    """Sheet of a workbook. Default: the first that is not hidden."""
    merge: bool = False
    """Whether labels that differ from one under `labels` only in case, spaces or Unicode form count as that label."""
    separator: str | None = Field(default=None, min_length=1)
    """Separator of labels in a cell, for `task: multilabel`; its default there is `|`. JSON lists need none."""

    @property
    def written(self) -> FileFormat:
        """The format of the files, as far as the user sets it."""
        return {"delimiter": self.delimiter, "encoding": self.encoding, "quoting": self.quoting, "sheet": self.sheet}

    def placed(self, place: Callable[[Path], Path]) -> Self:
        """Return a copy in which `place` has changed the path of each file."""
        return self.model_copy(update={name: place(path) for name in FILES if isinstance(path := getattr(self, name), Path)})

    @field_validator("none", mode="before")
    @classmethod
    def _check_none(cls, value: Any) -> Any:
        """Accept a file or a list of texts."""
        if isinstance(value, list | tuple):
            if odd := next((place for place, text in enumerate(value, 1) if not isinstance(text, str)), None):
                raise ValueError(f"entry {odd} is {value[odd - 1]!r}, expected a text; one that looks like a number needs quotes")
            return value
        if value is not None and not isinstance(value, str | Path):
            raise ValueError(f"found {value!r}, expected a file, or a list of texts: [..., ...]")
        return value


class SelftrainConfig(Section):
    """Which texts of `data.pool` join the drafts, labeled by a model of the real rows."""

    per_class: int = Field(default=200, ge=0, le=100_000)
    """The most texts of one label; 0 turns self-training off."""
    confidence: float = Field(default=0.75, ge=0.5, lt=1)
    """Least probability of the most probable label against the runner-up alone."""


class PretrainConfig(Section):
    """How models learn from the texts of `data.pool` before they learn from rows. It needs no labels."""

    encoder: float = Field(default=0.0, ge=0, le=100_000)
    """Minutes of masked language modeling for the encoder; 0 turns it off."""
    use: Literal["gated", "always"] = "gated"
    """Whether the pretrained encoder is used only if it is better on held-out real rows, or always."""
    reference: float = Field(default=0.0, ge=0, le=100_000)
    """Minutes in which the reference learns to write such texts, with a LoRA adapter; 0 turns it off."""


class TrainingConfig(Section):
    """How learners that are fine-tuned are trained: `finetune`, `lora` and the other methods of docs/how-to/training.md."""

    max_tokens: int = Field(default=LONGEST, ge=16, le=512)
    """Tokens that an encoder reads at once, at most the number of its positions. It holds for all learners with an encoder."""
    windows: Windows | None = None
    """What is read of longer texts: `cut` the beginning, `head_tail` beginning and end, `mean` all of it, in windows."""
    epochs: int | None = Field(default=None, ge=1, le=1000)
    """The most passes over the rows. Default: 20; with more than 1,500 rows as many as make 30,000 row passes, at least 3."""
    batch_size: int = Field(default=16, ge=1, le=4096)
    """Rows per step."""
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    """The highest learning rate. Default: the method's own."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; after it the rate falls to 0."""
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=256)
    """Passes into which the rows of a step are divided; their gradients are added up. More passes take less memory."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, a third more time."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of passes; weights stay in float32. `auto` takes bfloat16 if the processor multiplies it in hardware."""
    validation: float = Field(default=0.0, ge=0, le=0.5)
    """Share of rows for early stopping, used if it gives at least 12 rows, 2 per label. 0: all rows train, for all epochs."""
    patience: int = Field(default=3, ge=1, le=1000)
    """Training stops after this many epochs without fewer errors on those rows, or as many errors at a lower loss."""
    rank: int = Field(default=8, ge=1, le=512)
    """Rank of LoRA. AdaLoRA starts with twice this rank and ends with it on average."""
    virtual_tokens: int = Field(default=16, ge=1, le=256)
    """Vectors of a prompt or prefix."""
    bottleneck: int = Field(default=32, ge=1, le=4096)
    """Width of bottleneck adapters."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in the encoder and before the head."""
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Weight decay."""
    label_smoothing: float = Field(default=0.0, ge=0, le=0.5)
    """Share of a row's target that is spread evenly over all labels."""
    mixup: float = Field(default=0.0, ge=0, le=10)
    """`a` of Beta(a, a), by which embeddings and targets of two rows are mixed; 0 turns it off. Not together with `rdrop`."""
    adversarial: float = Field(default=0.0, ge=0, le=100)
    """Length of a step from a text's token embeddings up the gradient; the result is trained on too. 0 turns it off."""
    rdrop: float = Field(default=0.0, ge=0, le=100)
    """Weight of the divergence between two passes with different dropout; 0 turns it off. Needs `dropout`, excludes `mixup`."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """Weights that are kept: the last ones, their exponential moving average, or their mean over the last quarter of epochs."""

    @model_validator(mode="after")
    def _check_passes(self) -> Self:
        if self.rdrop and self.mixup:
            raise ValueError("rdrop compares two passes over one row, mixup mixes rows: use one of them")
        if self.rdrop and not self.dropout:
            raise ValueError("rdrop needs dropout: without it both passes say the same")
        return self


class SearchConfig(Section):
    """How hyper-parameters of fine-tuned learners are searched for, by Optuna: see docs/how-to/training.md."""

    minutes: float = Field(default=0.0, ge=0, le=100_000)
    """Minutes for all searches of a run together; 0 turns them off."""
    trials: int = Field(default=20, ge=1, le=10_000)
    """The most settings that one search tries."""


class EnsembleConfig(Section):
    """How models are joined by `average`, `stacking`, `distilled` and `soup` of docs/how-to/training.md."""

    folds: int = Field(default=4, ge=2, le=20)
    """Folds of the training rows for `stacking`: its weights are fitted to the learners' predictions for held-out folds."""
    teacher: Literal["average", "stacking"] = "average"
    """The ensemble that `distilled` learns from."""
    soup: Literal["greedy", "uniform"] = "greedy"
    """Models whose weights are averaged: those that do not raise the loss on validation rows, or all."""
    seeds: int = Field(default=3, ge=2, le=20)
    """Models that are fine-tuned for a soup."""


class PromptingConfig(Section):
    """How the learner `prompt`, which is only compared, asks the reference: see docs/how-to/prompting.md."""

    method: Literal["direct", "channel"] = "channel"
    """What is scored: each label after a text, or the text after each label."""
    shots: int = Field(default=0, ge=0, le=32)
    """Labeled rows that a prompt shows."""
    examples: Literal["same", "nearest"] = "same"
    """Which rows: the same for all texts, or for each text those with the nearest embeddings."""
    calibration: Literal["none", "contextual", "domain", "batch"] = "batch"
    """How the reference's bias towards labels is measured: on empty texts, on random words of the rows, or on the rows."""
    proposals: int = Field(default=0, ge=0, le=16)
    """Instructions and label words that the reference proposes for each label; real rows choose among them. 0: no search."""
    templates: Path | None = None
    """A file of templates, relative to the folder of task.yaml. Default: those of the package."""


class GateConfig(Section):
    """How it is decided whether drafts help."""

    folds: int = Field(default=4, ge=2, le=20)
    """Folds of the real rows. Drafts that saw a held-out row are held out with it."""
    repeats: int = Field(default=1, ge=1, le=20)
    """How often the rows are split into folds, each time with other training seeds. A row counts once in all figures."""


class UnsureConfig(Section):
    """When a model says that it is unsure."""

    accuracy: float = Field(default=0.9, gt=0, le=1)
    """Share of right answers among held-out rows on which the model is not unsure; it answers at least half of the rows."""


class CompressConfig(Section):
    """What ships: the trained model, a faster student of it, or both."""

    tiers: Literal["one", "static", "cascade"] = "one"
    """`one`: as trained. `static`: a student without a transformer. `cascade`: the student, then the model if it is unsure."""
    disagreement: float = Field(default=0.02, gt=0, le=0.5)
    """Largest share of all texts that a cascade may answer differently from the model alone."""
    delta: float = Field(default=0.1, gt=0, le=0.5)
    """Probability that this bound fails. Half of `data.pool` is set apart to certify it."""


class ContractConfig(Section):
    """How fast, small and good the bundle must be. The smallest variant that keeps to all three ships. Default: as trained."""

    p50_ms: float | None = Field(default=None, gt=0)
    """The most milliseconds for one text, as the median on the machine of the run."""
    size_mb: float | None = Field(default=None, gt=0)
    """The most megabytes (10^6 bytes) of the bundle."""
    keep: float | None = Field(default=None, gt=0, le=1)
    """Least share of the trained model's macro-F1 on held-out real rows that the smaller variant must keep."""
