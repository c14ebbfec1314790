"""What references are made of, what training one takes, and what steps are keyed by: all that a spec's functions are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from refsynth.core.config import RunConfig
from refsynth.core.protocols import Generator
from refsynth.core.registry import code_outside, load
from refsynth.core.sections import DeviceName

if TYPE_CHECKING:  # how weights come onto a machine is no code of the steps that are keyed by this
    from refsynth.models.store import ModelStore


class Decoding(TypedDict):
    """How a reference samples: `temperature` in (0, 5], nucleus `top_p` in (0, 1], at most `max_tokens` of a draft."""

    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True)
class ReferenceContext:
    """What a reference is made of.

    Attributes:
        section: of task.yaml that configures it; None of one that is known by its name alone.
        store: where weights are.
        decoding: how it samples.
        device: where it computes, if it does so on torch.
        folder: of the run, to remember there what it was told; None outside of a run.
    """

    section: Any
    store: ModelStore
    decoding: Decoding
    device: DeviceName = "auto"
    folder: Path | None = None


class Trainable(NamedTuple):
    """Weights of the reference that can be trained: a Hugging Face folder, and the token that opens a document, if known."""

    folder: Path
    start: str | None


class Training(NamedTuple):
    """How the weights of a reference are trained.

    Attributes:
        weights: returns them, of a context.
        ready: turns trained ones, a Hugging Face folder, into the folder that `make` reads.
        make: returns the reference with these, under a name for provenance.
    """

    weights: Callable[[ReferenceContext], Trainable]
    ready: Callable[[Path, Path], None]
    make: Callable[[ReferenceContext, Path, str], Generator]


def context_of(config: RunConfig, store: ModelStore, folder: Path | None = None) -> ReferenceContext:
    """Return what the reference that a configuration names is made of."""
    asked = config.synthesis
    decoding = Decoding(temperature=asked.temperature, top_p=asked.top_p, max_tokens=asked.max_tokens)
    section = None if isinstance(config.reference, str) else config.reference
    return ReferenceContext(section, store, decoding, config.device, folder)


def reference_key(config: RunConfig) -> dict[str, str] | None:
    """Return what decides what the reference answers beyond the configuration and our own code, for a step's key.

    That is what is in its folder, and the code of one that another package brings; None where there is neither.
    """
    spec = config.writer
    content = load(spec.content)(config.reference) if spec.content else None
    parts = {"content": content, "code": code_outside(spec.make)}
    return {name: value for name, value in parts.items() if value is not None} or None
