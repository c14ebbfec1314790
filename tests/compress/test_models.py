"""The real encoders through export and pruning; skipped where they have not been fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from refsynth.bundle import GOLDEN_TEXTS
from refsynth.compress.export import INT8, SAFE, TOKENIZER, export_encoder
from refsynth.compress.prune import prune_vocabulary
from refsynth.core.errors import ModelError
from refsynth.models.encoders import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.store import ModelStore


def folder_of(language: str) -> Path:
    try:
        return ModelStore().path(encoder_for(language).name)
    except ModelError as error:
        pytest.skip(f"the encoder is not in the model cache ({error.found})")


@pytest.mark.slow
def test_minilm_keeps_its_embeddings_in_a_quarter_of_the_size(tmp_path: Path) -> None:
    folder = folder_of("en")
    network = TransformerEncoder(folder, max_tokens=128)
    report = export_encoder(folder, folder / TOKENIZER, tmp_path / "out")
    assert report.quantized == 26  # 4 matrices in each of 6 layers, word and position embeddings
    assert report.size < 0.27 * (folder / "model.safetensors").stat().st_size
    texts = [text for text in GOLDEN_TEXTS if text.isascii()]
    reference = network.encode(texts)
    for name, floor in ((SAFE, 0.998), (INT8, 0.98)):
        embeddings = OnnxEncoder(tmp_path / "out" / name, tmp_path / "out" / TOKENIZER, max_tokens=128).encode(texts)
        assert (embeddings * reference).sum(1).mean() > floor, name


@pytest.mark.slow
def test_the_multilingual_encoder_pruned_for_chinese_reads_unseen_chinese_as_before(tmp_path: Path) -> None:
    folder = folder_of("zh")
    chinese = [text for text in GOLDEN_TEXTS if not text.isascii()]
    report = prune_vocabulary(folder, tmp_path, chinese[:8], prefix="query: ")
    assert report.scripts == {"CJK"}
    assert report.after < 0.1 * report.before
    old, new = (Tokenizer.from_file(str(place / TOKENIZER)) for place in (folder, tmp_path))
    for text in chinese[8:]:
        assert new.encode(f"query: {text}").tokens == old.encode(f"query: {text}").tokens
    before, after = (TransformerEncoder(place, prefix="query: ").encode(chinese[8:10]) for place in (folder, tmp_path))
    np.testing.assert_allclose(after, before, atol=1e-5)
