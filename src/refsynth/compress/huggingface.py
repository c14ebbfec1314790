"""The files of an exported model with which transformers and tokenizers read texts as the bundle does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.processors import TemplateProcessing

from refsynth.bundle.manifest import Manifest
from refsynth.core.errors import InputError
from refsynth.core.files import write_json
from refsynth.core.windows import Frame, reach_of

_UNSEEN = "[\\x00-\\x08\\x0e-\\x1b\\x7f-\\x84\\x86-\\x9f\\x{200b}\\x{2060}\\x{feff}]+"
"""The characters that `data.text.clean` removes, in the syntax of `tokenizers`."""

_SPECIAL = {
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def write_tokenizer(bundle: Path, manifest: Manifest, out: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, which include cleaning, prefix and truncation.

    Raises:
        InputError: the bundle reads pairs with a prefix before only the first text.
    """
    if manifest.last.prefix and manifest.pairs:
        raise InputError(
            f"{bundle}: its encoder needs a prefix before the first text of a pair only, which a tokenizer file cannot express",
            remedy="export it --to mlflow or --to hub, which keep the bundle as it is",
        )
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    steps = [normalizers.Replace(Regex(_UNSEEN), ""), normalizers.Replace(Regex("\\s+"), " "), normalizers.Strip()]
    if manifest.last.prefix:
        steps.append(normalizers.Prepend(manifest.last.prefix))
    tokenizer.normalizer = normalizers.Sequence([*steps, *([tokenizer.normalizer] if tokenizer.normalizer else [])])
    pad = int((tokenizer.padding or {}).get("pad_id", 0))
    padding = tokenizer.id_to_token(pad) or "[PAD]"
    if manifest.last.kind == "static":
        tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    tokenizer.enable_truncation(reach(manifest))
    tokenizer.enable_padding(pad_id=pad, pad_token=padding)
    tokenizer.save(str(out / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    named = {name: next((word for word in words if word in vocabulary), None) for name, words in _SPECIAL.items()}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": reach(manifest),
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **{name: word for name, word in named.items() if word is not None},
        "pad_token": padding,
    }
    write_json(out / "tokenizer_config.json", config)


def reach(manifest: Manifest) -> int:
    """Return how many tokens of a text are read by a tokenizer that can only truncate it."""
    longest = manifest.last.max_tokens or 512
    return reach_of(longest, "mean", Frame(0, 0)) if _averages_all(manifest) else longest


def reads_less(manifest: Manifest) -> bool:
    """Return whether a tokenizer that can only truncate reads less of a long text than the bundle."""
    return manifest.last.windows != "cut" and not _averages_all(manifest)


def _averages_all(manifest: Manifest) -> bool:
    """Return whether windows make no difference: a static model takes one mean over all tokens."""
    return manifest.last.kind == "static" and manifest.last.windows == "mean"


def config_of(manifest: Manifest, **shape: Any) -> dict[str, Any]:
    """Return the contents of `config.json`; `shape` holds the keys on the encoder."""
    names = [label.name for label in manifest.labels]
    return {
        "model_type": "bert",
        **shape,
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "multi_label_classification" if manifest.answers.several else "single_label_classification",
        "pad_token_id": 0,
        "refsynth": {
            "version": manifest.refsynth,
            "task": manifest.task,
            "max_tokens": reach(manifest),
            "temperature": manifest.calibration.temperature,
            "unsure_below": manifest.calibration.threshold,
            "thresholds": list(manifest.calibration.thresholds),
        },
    }
