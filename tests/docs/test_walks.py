"""The walks of `docs/explanation/walks.md` lead through functions that are there and call each other, never up the packages."""

import ast
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
WALKS = (ROOT / "docs" / "explanation" / "walks.md").read_text("utf-8").split("\n## ")[1:]
LINE = re.compile(r"^( *)- `([\w/]+)\.py:(\w+)`", re.M)
LONGEST = 12


class Hop(NamedTuple):
    """A function or class, how far its line is set in, and its caller; None if it is called from outside."""

    depth: int
    module: str
    name: str
    caller: "Hop | None"


def hops_of(walk):
    hops, above = [], {}
    for indent, module, name in LINE.findall(walk):
        depth = len(indent) // 4
        above[depth] = Hop(depth, module, name, above[depth - 1] if depth else None)
        hops.append(above[depth])
    return hops


def tree_of(module):
    return ast.parse((ROOT / "src" / "refsynth" / f"{module}.py").read_text("utf-8"))


def defined(tree):
    return {each.name: each for each in tree.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}


def known_as(hop, tree, module):
    """The name that a hop has in its caller's module; None if it is not imported there, from its module or its package."""
    if hop.module == module:
        return hop.name
    home = f"refsynth.{hop.module.replace('/', '.')}."
    imports = [each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom) and home.startswith(f"{each.module}.")]
    aliases = [alias for each in imports for alias in each.names if alias.name == hop.name]
    return next((alias.asname or alias.name for alias in aliases), None)


def used(node, functions, seen=()):
    """The names that a function uses, in order; where it uses a function of its module, also those that this one uses."""
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    for each in sorted(names, key=lambda name: (name.lineno, name.col_offset)):
        if each.id in functions and each.id not in seen:
            yield from used(functions[each.id], functions, (*seen, each.id))
        yield each.id


def broken(hops):
    """The hops that their callers do not use. What a function calls stands in its order; objects may be made earlier."""
    for caller in dict.fromkeys(hop.caller for hop in hops if hop.caller):
        tree = tree_of(caller.module)
        functions = defined(tree)
        names = list(used(functions[caller.name], functions, (caller.name,)))
        order = iter(names)
        for hop in hops:
            made = any(isinstance(defined(tree_of(each.module))[each.name], ast.ClassDef) for each in (hop, caller))
            if hop.caller == caller and known_as(hop, tree, caller.module) not in (names if made else order):
                yield hop


def floors() -> dict[str, int]:
    """The packages by how high they stand in the contract that import-linter holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    return {name.strip(): -place for place, line in enumerate(layers) for name in line.split("|")}


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.splitlines()[0])
def test_each_hop_is_there(walk):
    hops = hops_of(walk)
    assert 8 <= len(hops) <= LONGEST
    assert len(hops) == len(re.findall(r"^ *- ", walk, re.M))
    for hop in hops:
        assert hop.name in defined(tree_of(hop.module)), hop


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.splitlines()[0])
def test_each_hop_is_called_by_the_one_above_in_this_order(walk):
    assert list(broken(hops_of(walk))) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("learning/gate.py:decide", "learning/gate.py:gain_chances"),  # called, but not by the flow
        ("synthesis/rounds.py:screened", "synthesis/drafts.py:screen_drafts"),
        ("learning/judge.py:fit_judge", "learning/gate.py:decide"),  # too early
    ],
)
def test_a_wrong_hop_is_found(right, wrong):
    assert right in WALKS[0]
    assert list(broken(hops_of(WALKS[0].replace(right, wrong, 1))))


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.splitlines()[0])
def test_no_hop_leads_up(walk):
    height = floors()
    for hop in hops_of(walk):
        package, above = hop.module.split("/")[0], hop.caller and hop.caller.module.split("/")[0]
        assert above is None or height[package] <= height[above], hop
