"""The examples of docs/estimators.md run as they stand, one after the other, as a reader would run them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "estimators.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_every_example_runs(tiny_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 7
    names = {}
    for place, block in enumerate(BLOCKS):
        exec(compile(block, f"{DOCS.name}, example {place}", "exec"), names)
    assert names["classifier"].predict(["the parcel is late"]).tolist() == ["late"]
    assert names["tagger"].predict(["a late parcel"]) == [["late"]]
    assert names["matcher"].predict([("my parcel is late", "broken glass")]).dtype == bool
    assert names["finder"].predict([["Bo", "Lee", "lives", "in", "Rome"]]) == [["B-person", "I-person", "O", "O", "B-place"]]
    assert names["finder"].predict(["Bo Lee lives in Rome"]) == [[(0, 6, "person"), (16, 20, "place")]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "classifier.joblib"]
