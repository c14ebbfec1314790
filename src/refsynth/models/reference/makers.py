"""How each reference is made of a `ReferenceContext`: the functions that `core.references` names."""

from __future__ import annotations

import shutil
from pathlib import Path

from refsynth.core.drafting import EndpointReference, FolderReference
from refsynth.core.protocols import Generator
from refsynth.models.reference.context import ReferenceContext, Trainable, Training
from refsynth.models.reference.echo import EchoGenerator
from refsynth.models.reference.embedded import START, EmbeddedGenerator, to_ctranslate2
from refsynth.models.reference.folder import FolderGenerator, weights_digest
from refsynth.models.reference.remembered import RememberedScores
from refsynth.models.reference.server import make_endpoint, probe_server, probed

SCORES = "scores.jsonl"
"""The file in a run's folder of what an endpoint has said of texts."""


def echo(context: ReferenceContext) -> EchoGenerator:
    """Return the reference without a model."""
    return EchoGenerator()


def embedded(context: ReferenceContext) -> EmbeddedGenerator:
    """Return the reference of the store.

    Raises:
        MissingError: its weights or the extra `train` are not there.
    """
    return EmbeddedGenerator(context.store.path("smollm2"), **context.decoding)


def folder(context: ReferenceContext) -> FolderGenerator:
    """Return the model in a folder.

    Raises:
        MissingError: there is none, or the extra `train` is not there.
    """
    section: FolderReference = context.section
    return FolderGenerator(section.folder, device=context.device, **context.decoding)


def endpoint(context: ReferenceContext) -> Generator:
    """Return the model behind a server. It may be paid, so in a run no score is asked for that is in the run's folder.

    Raises:
        MissingError: it does not answer, does not have the model, or its key is not there.
    """
    server: EndpointReference = context.section
    if context.folder is None:
        return make_endpoint(server, probe_server(server), **context.decoding)
    made = make_endpoint(server, probed(server, context.folder), **context.decoding)
    return RememberedScores(made, context.folder / SCORES, identity=f"{server.endpoint} {made.name}")


def weights_in(section: FolderReference) -> str:
    """Return the hash of what is in the folder of a reference."""
    return weights_digest(section.folder)


def _embedded_weights(context: ReferenceContext) -> Trainable:
    return Trainable(context.store.path("smollm2-torch"), START)


def _embedded_trained(context: ReferenceContext, ready: Path, name: str) -> EmbeddedGenerator:
    return EmbeddedGenerator(ready, name=name, **context.decoding)


def _to_ready(weights: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    to_ctranslate2(weights, out)


EMBEDDED = Training(_embedded_weights, _to_ready, _embedded_trained)


def _folder_weights(context: ReferenceContext) -> Trainable:
    section: FolderReference = context.section
    return Trainable(section.folder, None)


def _folder_trained(context: ReferenceContext, ready: Path, name: str) -> FolderGenerator:
    return FolderGenerator(ready, device=context.device, **context.decoding)


def _copy(weights: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(weights, out)


FOLDER = Training(_folder_weights, _copy, _folder_trained)
