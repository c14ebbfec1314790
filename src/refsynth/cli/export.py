"""`refsynth export`: a bundle in a format that other tools read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option

from refsynth.cli.opening import Bundle, bundle_of
from refsynth.cli.screen import out


class ExportForm(StrEnum):
    """The formats that a bundle can be exported to."""

    onnx = "onnx"
    transformers = "transformers"
    mlflow = "mlflow"
    hub = "hub"


def export(
    bundle: Bundle,
    to: Annotated[ExportForm, Option("--to", help="onnx: one graph; transformers: torch weights; mlflow; hub.")],
    folder: Annotated[Path, Option("--out", help="A new folder to write.")],
) -> None:
    """Export a bundle for other tools: ONNX Runtime, transformers, MLflow, the Hugging Face hub. Nothing is uploaded.

    Example: refsynth export runs/tickets --to onnx --out exported
    """
    from refsynth.compress.handover import export_bundle
    from refsynth.core.files import size_of

    path = export_bundle(bundle_of(bundle), to.value, folder)
    out.print(f"{path} ({size_of(path):.1f} MB); how to use it: {path / 'README.md'}", markup=False)
