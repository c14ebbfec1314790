"""A worker in an environment of its own: one side a line, seconds a pass. Knows nothing of refsynth.

Started as `python theirs.py FOLDER WORK THREADS MAX_TOKENS`; says which sides it has, then answers each
{"side": NAME, "texts": [...], "one": BOOL} with {"seconds": S}.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

source, work, threads, longest = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no reply

import onnxruntime  # noqa: E402
import torch  # noqa: E402
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer  # noqa: E402
from optimum.onnxruntime.configuration import AutoQuantizationConfig  # noqa: E402
from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model, models  # noqa: E402
from transformers import AutoTokenizer, pipeline  # noqa: E402

torch.set_num_threads(threads)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads


# Written by a newer transformers, which names its tokenizers otherwise; the tokenizer.json is the same.
folder = shutil.copytree(source, work / "source", dirs_exist_ok=True)
settings_of_tokenizer = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
settings_of_tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
(folder / "tokenizer_config.json").write_text(json.dumps(settings_of_tokenizer), "utf-8")


def sentence_int8() -> Callable[[list[str]], Any]:
    """The ONNX backend of sentence-transformers with its own preset of dynamic int8."""
    target = work / "sentence"
    if not target.exists():
        words = models.Transformer(str(folder), max_seq_length=longest)
        parts = [words, models.Pooling(words.get_word_embedding_dimension(), "mean"), models.Normalize()]
        SentenceTransformer(modules=parts, device="cpu").save(str(target))
        plain = SentenceTransformer(str(target), backend="onnx", device="cpu", model_kwargs={"session_options": options})
        plain.save_pretrained(str(target))
        export_dynamic_quantized_onnx_model(plain, "avx512_vnni", str(target))
    settings = {"file_name": "onnx/model_qint8_avx512_vnni.onnx", "session_options": options}
    model = SentenceTransformer(str(target), backend="onnx", device="cpu", model_kwargs=settings)
    return lambda texts: model.encode(texts, batch_size=min(32, len(texts)), show_progress_bar=False)


def optimum_pipeline() -> Callable[[list[str]], Any]:
    """The feature-extraction pipeline on optimum's ONNX model in its int8 for AVX512-VNNI."""
    target = work / "optimum"
    if not (target / "model_quantized.onnx").exists():
        ORTModelForFeatureExtraction.from_pretrained(folder, export=True).save_pretrained(target)
        AutoTokenizer.from_pretrained(folder).save_pretrained(target)
        quantizer = ORTQuantizer.from_pretrained(target, file_name="model.onnx")
        quantizer.quantize(
            save_dir=target, quantization_config=AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
        )
    model = ORTModelForFeatureExtraction.from_pretrained(target, file_name="model_quantized.onnx", session_options=options)
    tokenizer = AutoTokenizer.from_pretrained(target)
    extract = pipeline("feature-extraction", model=model, tokenizer=tokenizer, device="cpu")
    cut = {"truncation": True, "max_length": longest}
    return lambda texts: extract(texts, batch_size=min(32, len(texts)), tokenize_kwargs=cut)


sides = {"sentence-transformers, ONNX int8": sentence_int8(), "optimum-onnx pipeline, int8": optimum_pipeline()}
print(json.dumps({"sides": list(sides)}), file=replies, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    run = sides[asked["side"]]
    started = time.perf_counter()
    if asked["one"]:
        for text in asked["texts"]:
            run([text])
    else:
        run(asked["texts"])
    print(json.dumps({"seconds": time.perf_counter() - started}), file=replies, flush=True)
