"""Exports a bundle for other tools: a folder that they read without refsynth, or with refsynth alone."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import yaml

from refsynth.bundle.manifest import CARD, Manifest
from refsynth.bundle.model import Model, load
from refsynth.bundle.store import partial_folder
from refsynth.core.errors import InputError
from refsynth.core.files import write_json

Target = Literal["onnx", "transformers", "mlflow", "hub"]


def export_bundle(bundle: Path, to: Target, out: Path) -> Path:
    """Write a bundle in another form into a new folder; the folder appears complete or not at all.

    Raises:
        InputError: the folder already exists, or bundles of this kind cannot have that form.
        BundleError: the folder is not a bundle, or the bundle is damaged.
        ExtraError: the form is `onnx` or `transformers`, which need the extra `train`, and that is not installed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: already exists", remedy="name a new folder with --out")
    model = load(bundle)
    with partial_folder(out) as partial:
        TARGETS[to](bundle, model, partial)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    return out


def _onnx(bundle: Path, model: Model, out: Path) -> None:
    from refsynth.compress.huggingface import config_of, write_tokenizer
    from refsynth.compress.single import one_graph

    graph = one_graph(bundle, model.manifest, model.variant)
    write_tokenizer(bundle, model.manifest, out)
    (out / "model.onnx").write_bytes(graph.SerializeToString())
    write_json(out / "config.json", config_of(model.manifest, architectures=["BertForSequenceClassification"]))
    _write_card(bundle, out, _ONNX_USE.format(text=_text(model.manifest)) + _unlike(model.manifest))


def _transformers(bundle: Path, model: Model, out: Path) -> None:
    from refsynth.compress.huggingface import write_tokenizer
    from refsynth.compress.restore import write_torch
    from refsynth.compress.single import tiers_of, why_not

    no_graph = why_not(model.manifest)
    if why := no_graph or model.manifest.last.spec.no_weights:
        raise InputError(
            f"{bundle}: a bundle {tiers_of(model.manifest)} has no weights for transformers: {why}",
            expected="a bundle with only the tier 'encoder'",
            remedy="export it --to mlflow or --to hub" + ("" if no_graph else ", or --to onnx"),
        )
    write_tokenizer(bundle, model.manifest, out)
    write_torch(bundle, model.manifest, out)
    link = "sigmoid()" if model.manifest.answers.several else "softmax(-1)"
    _write_card(bundle, out, _TORCH_USE.format(text=_text(model.manifest), link=link) + _unlike(model.manifest))


def _mlflow(bundle: Path, model: Model, out: Path) -> None:
    shutil.copytree(bundle, out / "bundle")
    version = platform.python_version()
    function = {
        "data": "bundle",
        "env": {"virtualenv": "python_env.yaml"},
        "loader_module": "refsynth.bundle.pyfunc",
        "python_version": version,
    }
    described = {
        "flavors": {"python_function": function},
        "signature": {"inputs": '[{"type": "string", "required": true}]'},
        "metadata": {
            "refsynth": model.manifest.refsynth,
            "task": model.manifest.task,
            "tiers": [tier.kind for tier in model.manifest.tiers],
        },
    }
    (out / "MLmodel").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    (out / "requirements.txt").write_text(f"refsynth=={model.manifest.refsynth}\n", encoding="utf-8")
    environment = {"python": version, "dependencies": ["-r requirements.txt"]}
    (out / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False), encoding="utf-8")
    _write_card(bundle, out, _MLFLOW_USE)


def _hub(bundle: Path, model: Model, out: Path) -> None:
    del model
    shutil.copytree(bundle, out / "bundle")
    large = ("*.bin", "*.onnx", "*.safetensors")
    (out / ".gitattributes").write_text("".join(f"{each} filter=lfs diff=lfs merge=lfs -text\n" for each in large))
    _write_card(bundle, out, _HUB_USE)


TARGETS: Mapping[Target, Callable[[Path, Model, Path], None]] = {
    "onnx": _onnx,
    "transformers": _transformers,
    "mlflow": _mlflow,
    "hub": _hub,
}
"""The forms that a bundle can be exported to."""


def _write_card(bundle: Path, out: Path, use: str) -> None:
    """Write the card of the bundle with another section on use."""
    card = (bundle / CARD).read_text(encoding="utf-8").partition("\n## Use\n")[0]
    (out / CARD).write_text(f"{card}\n## Use\n\n{use}\n", encoding="utf-8")


def _text(manifest: Manifest) -> str:
    return '("a text", "another")' if manifest.pairs else '"a text"'


_NO_TEXT = """

This form answers an empty text, or one of invisible characters, like any other, with the label that the model prefers. The bundle
refuses them, and so do `refsynth predict`, the server and the form `mlflow`: leave such texts out."""


def _unlike(manifest: Manifest) -> str:
    """Return how this form differs from the bundle: on empty texts, and on long texts if the bundle reads more of them."""
    from refsynth.compress.huggingface import reach, reads_less

    if not reads_less(manifest):
        return _NO_TEXT
    longest = reach(manifest)
    return _NO_TEXT + (
        f"\n\nOf a text with more than {longest} tokens this form reads the first {longest}, so its answer can differ from "
        "the bundle's, which reads more. The forms `mlflow` and `hub` read as the bundle does."
    )


_ONNX_USE = """With `onnxruntime`, `tokenizers` and `numpy`, in the folder of this file:

```python
import json, pathlib, numpy as np, onnxruntime, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession("model.onnx")
labels = json.loads(pathlib.Path("config.json").read_text("utf-8"))["id2label"]
rows = tokenizer.encode_batch([{text}])
ids, mask = (np.array([getattr(row, part) for row in rows], np.int64) for part in ("ids", "attention_mask"))
probabilities = session.run(["probabilities"], {{"input_ids": ids, "attention_mask": mask}})[0]
print([{{labels[str(index)]: float(value) for index, value in enumerate(row)}} for row in probabilities])
```

`probabilities` are calibrated: they are the softmax of `logits` (the sigmoid, where a text may have several labels). So
`optimum.onnxruntime.ORTModelForSequenceClassification` and its pipelines give the same. `refsynth.unsure_below` in
`config.json` is the probability below which the bundle abstains. The operators of `com.microsoft` are those of ONNX Runtime."""

_TORCH_USE = """With `transformers` and `torch`, in the folder of this file. The class is in `modeling_refsynth.py` (20 lines:
BERT, the mean of its states, a linear layer), since transformers has no such class. So it needs `trust_remote_code`: read the
file first.

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".", trust_remote_code=True).eval()
with torch.inference_mode():
    logits = model(**tokenizer([{text}], padding=True, truncation=True, return_tensors="pt")).logits
print(logits.{link}, model.config.id2label)
```

The weights are those of the bundle's safe variant: int8, converted to fp32. `refsynth predict` also runs int8 activations if
the processor supports them, so its probabilities differ in the second or third digit."""

_MLFLOW_USE = """A `python_function` model of MLflow: the unchanged bundle, read by `refsynth.bundle.pyfunc`. Nothing is pickled.

```python
import mlflow
mlflow.pyfunc.load_model("path/to/this/folder").predict(["a text"])   # label, probability, abstain, probabilities, reason
```

For a row without a text, all of these are None except `reason`, which tells why; the other rows are answered."""

_HUB_USE = """The folder `bundle` is the model. Nothing has been uploaded yet. First name the license of the model in the front
matter above (`license:`), then upload this folder with `hf upload USER/NAME path/to/this/folder`.

```python
import refsynth
from huggingface_hub import snapshot_download
model = refsynth.load(snapshot_download("USER/NAME") + "/bundle")
model.predict(["a text"])   # label, calibrated probabilities, abstain
```"""
