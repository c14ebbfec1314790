"""The context of learners: labels, language, the encoder, and the training configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError
from refsynth.core.hashes import digest, file_digest
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.protocols import Generator
from refsynth.core.registry import code_outside
from refsynth.core.sections import EnsembleConfig, PromptingConfig, TrainingConfig
from refsynth.core.task import Task
from refsynth.core.windows import Windows
from refsynth.kinds import KINDS, ONE_LABEL, Kind
from refsynth.learning.candidates import ranked
from refsynth.learning.head import Link
from refsynth.learning.prompting.templates import templates_for
from refsynth.learning.search import SearchBudget, search_budget
from refsynth.models.device import device_named, has_bfloat16
from refsynth.models.encoders import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.reference.context import reference_key

USUAL = EnsembleConfig()


@dataclass(frozen=True)
class LearnerContext:
    """The labels, the language, the encoder that learners start from, loaded once, and their configuration.

    `members` are the learners that ensembles join. `unlabeled` are texts for a student.
    """

    labels: tuple[str, ...]
    descriptions: Mapping[str, str]
    language: str
    encoder: TransformerEncoder
    encoder_hash: str
    training: TrainingConfig
    checkpoints: Path | None
    causal: Path | None
    prompting: PromptingConfig
    reference: Callable[[], Generator] | None
    kind: Kind = ONE_LABEL
    members: tuple[LearnerName, ...] = ()
    ensemble: EnsembleConfig = USUAL
    search: SearchBudget | None = None
    unlabeled: tuple[str, ...] = ()

    @property
    def link(self) -> Link:
        """How logits of texts become probabilities."""
        return "sigmoid" if self.kind.several else "softmax"


def make_context(
    task: Task,
    language: str,
    encoder: Path,
    *,
    max_tokens: int,
    checkpoints: Path | None = None,
    causal: Path | None = None,
    reference: Callable[[], Generator] | None = None,
    windows: Windows = "cut",
    unlabeled: tuple[str, ...] = (),
) -> LearnerContext:
    """Load the encoder and return the context of the learners.

    Args:
        task: the task.
        language: ISO 639-1 code of the texts.
        encoder: the folder of the encoder.
        max_tokens: the most tokens of a text.
        checkpoints: the folder for checkpoints of a killed training.
        causal: the folder of the reference's weights, if a learner trains them.
        reference: makes the reference, if a learner prompts it.
        windows: how longer texts are read.
        unlabeled: texts for a student.

    Raises:
        ConfigError: this machine lacks the device or precision of the configuration.
    """
    spec, training, device = encoder_for(language), task.config.training, device_named(task.config.device)
    if training.precision == "bfloat16" and not has_bfloat16(device):
        raise ConfigError(
            "training.precision: this device does not multiply bfloat16, and emulating it is slower than float32",
            remedy="leave it out: auto takes what is fast here",
        )
    loaded = TransformerEncoder(encoder, prefix=spec.prefix, max_tokens=max_tokens, windows=windows, device=device)
    weights = [encoder / "model.safetensors", *(sorted(causal.glob("*.safetensors")) if causal is not None else ())]
    encoder_hash = digest([*map(file_digest, weights), loaded.prefix, loaded.max_tokens, loaded.windows])
    kind = KINDS[task.config.task]
    return LearnerContext(
        task.labels,
        task.descriptions,
        language,
        loaded,
        encoder_hash,
        training,
        checkpoints,
        causal,
        task.config.prompting,
        reference,
        kind,
        members=tuple(ranked(task.config.members)),
        ensemble=task.config.ensemble,
        search=search_budget(task.config, checkpoints),
        unlabeled=unlabeled,
    )


def learners_key(config: RunConfig, language: str) -> dict[str, Any]:
    """Return what a step's key needs about the learners: the files that `prompt` reads, and the code of other packages.

    Raises:
        ConfigError: the templates cannot be used.
    """
    code = {name: code_outside(LEARNERS[name].make) for name in config.learners}
    key: dict[str, Any] = {"learners.outside": {name: value for name, value in code.items() if value} or None}
    if "prompt" not in config.learners:
        return {**key, "reference.content": None, "prompting.templates": None}
    templates = [template.model_dump() for template in templates_for(language, config.prompting.templates)]
    return {**key, "reference.content": reference_key(config), "prompting.templates": templates}
