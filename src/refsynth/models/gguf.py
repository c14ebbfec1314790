"""Converting SmolLM2 from its GGUF file to CTranslate2 int8, which generates fast, or to a trainable Hugging Face folder.

It needs the extra `train`: transformers reads the GGUF file, and CTranslate2 converts it. That takes some 20 s and 2 GB of
memory.
"""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path

from refsynth.core.extras import require
from refsynth.core.files import read_json, write_json
from refsynth.models.quiet import quiet


def convert(gguf: Path, folder: Path, *, work: Path) -> None:
    """Write the int8 model and `tokenizer.json` into a folder; `work` holds the full-precision model until then.

    Raises:
        ExtraError: the extra `train` is not installed.
    """
    require("ctranslate2", extra="train")
    unpack(gguf, work, dtype="float32")
    quantize(work, folder)


def unpack(gguf: Path, folder: Path, *, dtype: str) -> None:
    """Write the model as a Hugging Face folder of safetensors, with the given torch dtype.

    Raises:
        ExtraError: the extra `train` is not installed.
    """
    transformers = require("transformers", extra="train")
    torch = require("torch", extra="train")
    require("gguf", extra="train")
    with quiet(), redirect_stderr(io.StringIO()):  # one progress bar ignores the setting
        options = {"gguf_file": gguf.name, "local_files_only": True}
        tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **options)
        model.hf_quantizer = None  # the weights are dequantized already, but saving fails with these two attributes
        del model.config.quantization_config
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):  # the bytes must not depend on the version of transformers
        tree = read_json(folder / name)
        write_json(folder / name, {key: value for key, value in tree.items() if key != "transformers_version"})


def quantize(source: Path, folder: Path) -> None:
    """Write a Hugging Face folder as CTranslate2 int8 and `tokenizer.json`; remove the source's weights.

    Raises:
        ExtraError: the extra `train` is not installed.
    """
    ctranslate2 = require("ctranslate2", extra="train")
    with quiet(), redirect_stderr(io.StringIO()):  # one progress bar ignores the setting
        converted = folder / "converted"
        ctranslate2.converters.TransformersConverter(str(source)).convert(str(converted), quantization="int8")
    for path in converted.iterdir():
        path.replace(folder / path.name)
    converted.rmdir()
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    shutil.rmtree(source)
