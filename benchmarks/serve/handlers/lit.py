"""LitServe with batches."""

import sys
from pathlib import Path
from typing import Any

import litserve
from bare import Bare


class Classifier(litserve.LitAPI):
    """Texts in, labels out."""

    def setup(self, device: str) -> None:
        """Open the model."""
        self.model = Bare(Path(sys.argv[1]))

    def decode_request(self, request: dict[str, Any]) -> str:
        """Return the text."""
        return str(request["text"])

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """Label a batch."""
        return self.model.label(texts)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the reply."""
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=64, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
