"""The arguments of a reference's functions: how it is made, how its weights are trained, and its part of step keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from refsynth.core.config import RunConfig
from refsynth.core.protocols import Generator
from refsynth.core.registry import code_outside, load
from refsynth.core.sections import DeviceName

if TYPE_CHECKING:  # importing it would add the code of downloads to step keys
    from refsynth.models.store import ModelStore


class Decoding(TypedDict):
    """How a reference samples: `temperature` in (0, 5], nucleus `top_p` in (0, 1], at most `max_tokens` for a draft."""

    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True)
class ReferenceContext:
    """The arguments of a reference.

    Attributes:
        section: its section of task.yaml; None if task.yaml only names it.
        store: the store of weights.
        decoding: how it samples.
        device: the device for references on torch.
        folder: the folder of the run, to keep answers in; None outside of a run.
    """

    section: Any
    store: ModelStore
    decoding: Decoding
    device: DeviceName = "auto"
    folder: Path | None = None


class Trainable(NamedTuple):
    """Trainable weights of a reference: a Hugging Face folder, and the token that starts a document, if known."""

    folder: Path
    start: str | None


class Training(NamedTuple):
    """How the weights of a reference are trained.

    Attributes:
        weights: returns the weights for a context.
        ready: converts a Hugging Face folder of trained weights into the folder that `make` reads.
        make: returns the reference with trained weights, with a name for provenance.
    """

    weights: Callable[[ReferenceContext], Trainable]
    ready: Callable[[Path, Path], None]
    make: Callable[[ReferenceContext, Path, str], Generator]


def context_of(config: RunConfig, store: ModelStore, folder: Path | None = None) -> ReferenceContext:
    """Return the context of the reference that a configuration names."""
    synthesis = config.synthesis
    decoding = Decoding(temperature=synthesis.temperature, top_p=synthesis.top_p, max_tokens=synthesis.max_tokens)
    section = None if isinstance(config.reference, str) else config.reference
    return ReferenceContext(section, store, decoding, config.device, folder)


def reference_key(config: RunConfig) -> dict[str, str] | None:
    """Return what a step's key needs about the reference, beyond the configuration and our own code.

    That is the content of its folder, and its code if another package provides it; None if there is neither.
    """
    spec = config.reference_spec
    content = load(spec.content)(config.reference) if spec.content else None
    parts = {"content": content, "code": code_outside(spec.make)}
    return {name: value for name, value in parts.items() if value is not None} or None
