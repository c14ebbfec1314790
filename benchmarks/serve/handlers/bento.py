"""BentoML with adaptive batches."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
from bare import Bare

BUNDLE = "BENCH_BUNDLE"


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classifier:
    """Texts in, labels out."""

    def __init__(self) -> None:
        self.model = Bare(Path(os.environ[BUNDLE]))

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=60000)
    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """Label a batch."""
        return self.model.label(texts)


if __name__ == "__main__":
    os.environ[BUNDLE] = sys.argv[1]
    os.environ["BENTOML_DO_NOT_TRACK"] = "true"
    os.chdir(Path(__file__).parent)
    os.execv(  # the program that `pip install bentoml` puts beside this interpreter
        sys.executable,
        [sys.executable, "-m", "bentoml", "serve", "bento:Classifier", "--host", "127.0.0.1", "--port", sys.argv[2]],
    )
