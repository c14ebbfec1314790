"""The sections of the configuration, one per stage: every key with its default, its bounds and what it means.

Those of drafts are in `core.drafting`.
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
    """Return a label as data files have it; YAML's own yes and no stay what they are, and are refused."""
    return value if isinstance(value, bool) else spell(value) or value


Name = Annotated[str, Field(min_length=1), BeforeValidator(_spelled)]
"""What YAML may take for a number, and what is read as text in a data file too: the label `1`."""

Quoting = Literal["standard", "none"]
"""Whether a quote at the start of a field encloses it, over lines too, or no field runs over the end of a line."""


class FileFormat(TypedDict, total=False):
    """How a data file is written, as the user says it; None, or left out, where it is found out.

    `delimiter` and `quoting` are of CSV, `encoding` of text, `sheet` of a workbook: the first that is not hidden if left out.
    """

    delimiter: str | None
    encoding: str | None
    quoting: Quoting | None
    sheet: str | None


JOINED = " + "
"""Between the names of columns that are read as one."""


def parts_of(column: str) -> tuple[str, ...]:
    """Return the columns that one of that name is made of: itself, where it is one."""
    return tuple(part.strip() for part in column.split(JOINED))


def _one_name(value: Any) -> Any:
    return JOINED.join(map(str, value)) if isinstance(value, list | tuple) and value else value


Column = Annotated[str, BeforeValidator(_one_name)]
"""A column's name; a list of names is one column that is made of them, in `a + b`."""


class Section(BaseModel):
    """A part of the tree: immutable, and it refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Section):
    """Which columns of a data file hold what."""

    text: Column = "text"
    """Column of the text; a list of columns makes one text of them, with a blank line between."""
    label: Column = "label"
    """Column of the label; a list of columns of yes and no (0 and 1) names the labels that a text has."""
    pair: Column | None = None
    """Column of the second text, for `task: pairs`; there `text_pair` unless it is named."""
    id: str | None = None
    """Column of what you call a row, to find it again; `id` if left out. Need not be there."""
    weight: str | None = None
    """Column of how many rows a row counts as in training; all count as one where it is left out."""
    tags: tuple[Name, ...] = ()
    """For `task: tokens`: what tags that are numbers stand for, in their order, such as `[O, B-person, I-person]`."""
    offsets: Literal["characters", "utf16", "bytes"] | None = None
    """For `task: tokens`: what places of spans count. If left out, the spans' own texts decide; without them, characters."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that make up the text: one, or two of a pair."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


FILES = ("train", "more", "pool", "test", "none")
"""The keys of `DataConfig` that name files."""


class DataConfig(Section):
    """The user's files. Relative paths are read from the folder of task.yaml."""

    train: Path | None = None
    """Labelled rows (CSV, TSV, JSONL, Parquet or Excel). Without it the labels' descriptions are all there is."""
    more: Path | None = None
    """Further labelled rows (JSONL), which `refsynth label add` appends to; need not be there yet."""
    pool: Path | None = None
    """Unlabelled texts for self-training and pretraining; a `.txt` has one per line."""
    test: Path | None = None
    """Labelled rows to measure on, at the end. They decide nothing but which drafts are taken out: those that resemble one."""
    none: Path | tuple[str, ...] | None = None
    """Texts that none of the labels fits, a file or a list: what is like them is marked. Of a file no label is read."""
    columns: Columns = Columns()
    """Column names, the same in all files."""
    delimiter: str | None = None
    """Field delimiter of the CSV files; if left out, each file's own is detected."""
    encoding: str | None = None
    """Text encoding of the files (but `data.more`, which is UTF-8); if left out, each file's own is detected."""
    quoting: Quoting | None = None
    """Of CSV: `standard`, or `none` where quotes are characters and each line is a row; if left out, found from the rows."""
    sheet: str | None = None
    """Sheet of a workbook; the first that is not hidden if left out."""
    merge: bool = False
    """Whether labels that differ only in case, spaces or Unicode form are the one that `labels` names."""
    separator: str | None = Field(default=None, min_length=1)
    """What stands between the labels in a cell, for `task: multilabel`; there `|` unless it is named. JSON lists need none."""

    @property
    def written(self) -> FileFormat:
        """How the files are written, as far as it is said."""
        return {"delimiter": self.delimiter, "encoding": self.encoding, "quoting": self.quoting, "sheet": self.sheet}

    def placed(self, place: Callable[[Path], Path]) -> Self:
        """Return it with the path of each file changed."""
        return self.model_copy(update={name: place(path) for name in FILES if isinstance(path := getattr(self, name), Path)})

    @field_validator("none", mode="before")
    @classmethod
    def _check_none(cls, value: Any) -> Any:
        """Tell a file from texts."""
        if isinstance(value, list | tuple):
            if odd := next((place for place, text in enumerate(value, 1) if not isinstance(text, str)), None):
                raise ValueError(f"entry {odd} is {value[odd - 1]!r}, expected a text; one that looks like a number needs quotes")
            return value
        if value is not None and not isinstance(value, str | Path):
            raise ValueError(f"found {value!r}, expected a file, or a list of texts: [..., ...]")
        return value


class SelftrainConfig(Section):
    """Which texts of `data.pool` join the drafts, labelled by a model of the real rows."""

    per_class: int = Field(default=200, ge=0, le=100_000)
    """The most texts of one label; 0 turns self-training off."""
    confidence: float = Field(default=0.75, ge=0.5, lt=1)
    """Least probability of the likeliest label against the runner-up alone."""


class PretrainConfig(Section):
    """How models learn from the texts of `data.pool` before they learn from rows. No label is needed for it."""

    encoder: float = Field(default=0.0, ge=0, le=100_000)
    """Minutes in which the encoder learns to guess masked words; 0 turns it off."""
    use: Literal["gated", "always"] = "gated"
    """Whether the encoder that has learnt must be better on held-out real rows, or is used in any case."""
    reference: float = Field(default=0.0, ge=0, le=100_000)
    """Minutes in which the reference learns to write such texts, by a LoRA adapter; 0 turns it off."""


class TrainingConfig(Section):
    """How learners that are fine-tuned are trained: `finetune`, `lora` and the other methods of docs/how-to/training.md."""

    max_tokens: int = Field(default=LONGEST, ge=16, le=512)
    """Tokens that the encoder reads at once, at most as many as it has positions for; of all learners that have one."""
    windows: Windows | None = None
    """What is read of longer texts: `cut` the beginning, `head_tail` beginning and end, `mean` all of it, in windows."""
    epochs: int | None = Field(default=None, ge=1, le=1000)
    """The most passes over the rows; if left out 20, of more than 1,500 rows as many as make 30,000 in all, and at least 3."""
    batch_size: int = Field(default=16, ge=1, le=4096)
    """Rows of a step."""
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    """Learning rate at its highest; the method's own if left out."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the rate rises; after it the rate falls to 0."""
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=256)
    """Passes in which the rows of a step are computed, their gradients added up: more take less memory."""
    gradient_checkpointing: bool = False
    """Compute activations again on the way back instead of keeping them: less memory, a third more time."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of passes; weights stay in float32. `auto` takes bfloat16 where the processor multiplies it in hardware."""
    validation: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the rows that tells when to stop, where that makes 12 rows, 2 of each label; with 0 all train, for all epochs."""
    patience: int = Field(default=3, ge=1, le=1000)
    """Epochs without fewer errors on those rows, or as many at a lower loss, after which training ends."""
    rank: int = Field(default=8, ge=1, le=512)
    """Rank of LoRA; AdaLoRA starts with twice that and ends with it in the mean."""
    virtual_tokens: int = Field(default=16, ge=1, le=256)
    """Vectors of a prompt or prefix."""
    bottleneck: int = Field(default=32, ge=1, le=4096)
    """Width of bottleneck adapters."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """In the encoder and before the head."""
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Weight decay."""
    label_smoothing: float = Field(default=0.0, ge=0, le=0.5)
    """Share of what a row teaches that is spread evenly over all labels."""
    mixup: float = Field(default=0.0, ge=0, le=10)
    """`a` of Beta(a, a), by which embeddings and targets of two rows are mixed; 0 turns it off. Not beside `rdrop`."""
    adversarial: float = Field(default=0.0, ge=0, le=100)
    """Length of the step up the gradient from a text's token embeddings, learnt from as well; 0 turns it off."""
    rdrop: float = Field(default=0.0, ge=0, le=100)
    """Weight of the divergence between two passes over a row with other dropout; 0 turns it off. Needs `dropout`, not `mixup`."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """Weights that are kept: the last, their exponential moving average, or their mean over the last quarter of the epochs."""

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
    """For all searches of a run together; 0 turns them off."""
    trials: int = Field(default=20, ge=1, le=10_000)
    """Settings that one search tries, at most."""


class EnsembleConfig(Section):
    """How models are joined by `average`, `stacking`, `distilled` and `soup` of docs/how-to/training.md."""

    folds: int = Field(default=4, ge=2, le=20)
    """Parts of the training rows for `stacking`: its weights suit what the others say of each part when it is held out."""
    teacher: Literal["average", "stacking"] = "average"
    """Which of the two `distilled` learns from."""
    soup: Literal["greedy", "uniform"] = "greedy"
    """Models whose weights are averaged: those with which the loss on the rows set aside does not rise, or all."""
    seeds: int = Field(default=3, ge=2, le=20)
    """Models that are fine-tuned for a soup."""


class PromptingConfig(Section):
    """How the reference is asked by the learner `prompt`, which is compared only: see docs/how-to/prompting.md."""

    method: Literal["direct", "channel"] = "channel"
    """What is scored: each label after a text, or the text after each label."""
    shots: int = Field(default=0, ge=0, le=32)
    """Labelled rows that a prompt shows."""
    examples: Literal["same", "nearest"] = "same"
    """Which: the same for all texts, or those whose embeddings are nearest to each."""
    calibration: Literal["none", "contextual", "domain", "batch"] = "batch"
    """Where the reference's taste for labels is measured: on empty texts, on random words of the rows, or on the rows."""
    proposals: int = Field(default=0, ge=0, le=16)
    """Instructions and words for each label that the reference proposes and real rows choose among; 0: no search."""
    templates: Path | None = None
    """A file of templates, its path from the folder of task.yaml; those that come with the package if left out."""


class GateConfig(Section):
    """How the decision for or against drafts is made."""

    folds: int = Field(default=4, ge=2, le=20)
    """Folds of the real rows; drafts that saw a held-out row are held out with it."""
    repeats: int = Field(default=1, ge=1, le=20)
    """How often the rows are dealt into folds, each time anew, with other training seeds; a row counts once in all figures."""


class UnsureConfig(Section):
    """When a model says that it is unsure instead of standing by its answer."""

    accuracy: float = Field(default=0.9, gt=0, le=1)
    """Share of right answers among those it stands by, on held-out rows; at least half of these are answered in any case."""


class CompressConfig(Section):
    """What ships: the trained model, a faster student of it, or both."""

    tiers: Literal["one", "static", "cascade"] = "one"
    """`one`: as trained. `static`: a student without a transformer. `cascade`: the student, then the model where it is unsure."""
    disagreement: float = Field(default=0.02, gt=0, le=0.5)
    """Of a cascade: the largest share of all texts that may be answered otherwise than the model alone would."""
    delta: float = Field(default=0.1, gt=0, le=0.5)
    """The chance that this is broken; half of `data.pool` is set aside to see to it."""


class ContractConfig(Section):
    """How fast, small and good the bundle must be; the smallest form of the model that is so ships. Nothing asked: as trained."""

    p50_ms: float | None = Field(default=None, gt=0)
    """Most milliseconds for one text, as the median on the machine of the run."""
    size_mb: float | None = Field(default=None, gt=0)
    """Most megabytes (10^6 bytes) of the bundle."""
    keep: float | None = Field(default=None, gt=0, le=1)
    """Least share of the macro-F1 on held-out real rows that the model has before it is made smaller."""
