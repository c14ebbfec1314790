"""The functions that make each reference from a `ReferenceContext`; `core.references` names them."""

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
"""The file with an endpoint's scores in a run's folder."""


def echo(context: ReferenceContext) -> EchoGenerator:
    """Return the reference `echo`."""
    return EchoGenerator()


def embedded(context: ReferenceContext) -> EmbeddedGenerator:
    """Return the reference `embedded`.

    Raises:
        MissingError: its weights or the extra `train` are missing.
    """
    return EmbeddedGenerator(context.store.path("smollm2"), **context.decoding)


def folder(context: ReferenceContext) -> FolderGenerator:
    """Return the model in a folder.

    Raises:
        MissingError: the model or the extra `train` is missing.
    """
    section: FolderReference = context.section
    return FolderGenerator(section.folder, device=context.device, **context.decoding)


def endpoint(context: ReferenceContext) -> Generator:
    """Return the model behind a server. In a run, scores are kept in the run's folder, since requests may cost money.

    Raises:
        MissingError: the server does not answer or does not have the model, or its key is missing.
    """
    server: EndpointReference = context.section
    if context.folder is None:
        return make_endpoint(server, probe_server(server), **context.decoding)
    generator = make_endpoint(server, probed(server, context.folder), **context.decoding)
    return RememberedScores(generator, context.folder / SCORES, identity=f"{server.endpoint} {generator.name}")


def weights_in(section: FolderReference) -> str:
    """Return the hash of the weights in the folder of a reference."""
    return weights_digest(section.folder)


def _convert(weights: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    to_ctranslate2(weights, out)


def _copy(weights: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(weights, out)


EMBEDDED = Training(
    weights=lambda context: Trainable(context.store.path("smollm2-torch"), START),
    ready=_convert,
    make=lambda context, ready, name: EmbeddedGenerator(ready, name=name, **context.decoding),
)

FOLDER = Training(
    weights=lambda context: Trainable(context.section.folder, None),
    ready=_copy,
    make=lambda context, ready, name: FolderGenerator(ready, device=context.device, **context.decoding),
)
