"""A plain FastAPI handler: a thread of its pool for each request, no batches."""

import sys
from pathlib import Path
from typing import Any

import uvicorn
from bare import Bare
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = Bare(Path(sys.argv[1]))


class Asked(BaseModel):
    """A text."""

    text: str


@app.post("/predict")
def predict(asked: Asked) -> dict[str, Any]:
    """Label a text."""
    return model.label([asked.text])[0]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False)
