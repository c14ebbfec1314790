"""`refsynth doctor`: what is installed, what is missing, what this machine can do. It needs no network."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from refsynth.cli.screen import Json, out, print_json
from refsynth.core.machine import cores, instructions
from refsynth.core.references import REFERENCES, ReferenceSpec
from refsynth.models.catalog import CATALOG
from refsynth.models.store import ModelStore


def doctor(as_json: Json = False) -> None:
    """Tell what is installed, what is missing and what this machine can do.

    Example: refsynth doctor --json
    """
    report = examine()
    if as_json:
        print_json(report)
        return
    machine = report["machine"]
    out.print(f"refsynth {report['refsynth']}  Python {report['python']}  {machine['system']}", markup=False)
    out.print(
        f"machine   {machine['cores']} cores, {machine['memory_gb']} GB memory, {', '.join(machine['flags']) or 'no int8 flags'}"
    )
    out.print(f"cache     {report['cache']} ({report['free_gb']} GB free)", markup=False)
    for extra, packages in report["extras"].items():
        missing = [name for name, version in packages.items() if version is None]
        state = (
            f"missing {', '.join(missing)}: pip install 'refsynth[{extra}]'"
            if missing
            else f"complete ({len(packages)} packages)"
        )
        out.print(f"extra     {extra}: {state}", markup=False)
    for name, ready in report["models"].items():
        absent = "optional, not fetched" if CATALOG[name].optional else "missing"
        out.print(f"model     {name}: {'ready' if ready else f'{absent}: refsynth models fetch {name}'}", markup=False)
    for name, needs in report["references"].items():
        status = "ready, over the network" if REFERENCES[name].network else "ready"
        out.print(f"reference {REFERENCES[name].written}: {f'needs {needs}' if needs else status}", markup=False)
    out.print("network   not used, here or by any command but `models fetch` and a reference endpoint")


def examine() -> dict[str, Any]:
    """Return the findings as JSON-ready values."""
    store, extras = ModelStore(), _extras()
    return {
        "refsynth": metadata.version("refsynth"),
        "python": platform.python_version(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": cores(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "flags": instructions(),
        },
        "extras": extras,
        "models": {name: store.status(name).ready for name in CATALOG},
        "references": {name: _missing_for(spec, extras, store) for name, spec in REFERENCES.items()},
        "cache": str(store.root),
        "free_gb": round(_free(store.root) / 2**30, 1),
        "network": "not used",
    }


def _missing_for(spec: ReferenceSpec, extras: Mapping[str, Mapping[str, str | None]], store: ModelStore) -> str:
    """Return the extras and models that a reference needs and this machine lacks; empty if there are none."""
    missing = [f"the extra {name}" for name in spec.extras if None in extras.get(name, {}).values()]
    return ", ".join([*missing, *(f"the model {name}" for name in spec.models if not store.status(name).ready)])


def _extras() -> dict[str, dict[str, str | None]]:
    """Return the version of each package of each extra, from the installed metadata."""
    extras: dict[str, dict[str, str | None]] = {}
    for requirement in metadata.requires("refsynth") or ():
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name and extra and name.group() != "refsynth":
            extras.setdefault(extra.group(1), {})[name.group()] = _version(name.group())
    return extras


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
