"""The walks of `docs/explanation/walks.md` lead through functions that are there, and never back up the graph of packages."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WALKS = (ROOT / "docs" / "explanation" / "walks.md").read_text("utf-8").split("\n## ")[1:]
HOP = re.compile(r"^\d+\. `([\w/]+)\.py:(\w+)`", re.M)
LONGEST = 12


def floors() -> dict[str, int]:
    """The packages by how high they stand in the contract that import-linter holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    return {name.strip(): -place for place, line in enumerate(layers) for name in line.split("|")}


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.splitlines()[0])
def test_each_hop_is_there(walk):
    hops = HOP.findall(walk)
    assert 8 <= len(hops) <= LONGEST
    for module, name in hops:
        tree = ast.parse((ROOT / "src" / "refsynth" / f"{module}.py").read_text("utf-8"))
        assert name in {
            node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        }


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.splitlines()[0])
def test_no_hop_leads_up(walk):
    """Each hop is called by the one above, or, after the break, by the flow itself."""
    first, *rest = re.split(r"\n\nThe job is there.*", walk)
    heights = [floors()[module.split("/")[0]] for module, _ in HOP.findall(first)]
    assert heights == sorted(heights, reverse=True)
    assert all(floors()[module.split("/")[0]] <= floors()["pipeline"] for part in rest for module, _ in HOP.findall(part))
