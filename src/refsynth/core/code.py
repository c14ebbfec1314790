"""The code that a step runs, as one hash: of a module and of all modules of its own package that it imports, at any depth.

Sources are read, not run. Comments, docstrings and layout are left out of the hash, so that editing them invalidates no step.
Imports for type checkers and other packages are left out too.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")
"""Fields of a syntax tree's node that hold statements, or nodes with statements in them."""

CHECKED = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
"""Conditions that only type checkers take for true."""


class ModuleSource(NamedTuple):
    """The hash of a module's code, and the modules of its package that it imports."""

    hash: str
    imports: tuple[str, ...]


@cache
def code_of(*modules: str, excluded: tuple[str, ...] = ()) -> str:
    """Return one sha256, in hex, over the code of the modules and of what they import from their own package.

    Args:
        modules: full names. A module without a source, such as that of an interactive session, counts by its name alone.
        excluded: modules, and packages with all their modules, that are left out with what they import.
    """
    return _sha256("\n".join(f"{name} {source_of(name).hash}" for name in sorted(closure_of(*modules, excluded=excluded))))


@cache
def closure_of(*modules: str, excluded: tuple[str, ...] = ()) -> frozenset[str]:
    """Return the names of the modules that `code_of` reads."""
    closure: set[str] = set()
    left = [name for name in modules if not _below(name, excluded)]
    while left:
        if (name := left.pop()) not in closure:
            closure.add(name)
            left += [imported for imported in source_of(name).imports if not _below(imported, excluded)]
    return frozenset(closure)


@cache
def source_of(module: str) -> ModuleSource:
    """Read a module's source. It is read once: a process goes on running the code that it has loaded."""
    file = _file_of(module)
    if file is None:
        return ModuleSource("", ())
    tree = ast.parse(file.read_bytes())
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    root, names = module.partition(".")[0], set[str]()
    for node in _statements(tree):
        names.update(_imported(node, package))
    known = {name for name in names - {module} if name.partition(".")[0] == root and _file_of(name)}
    return ModuleSource(_sha256(ast.dump(tree, annotate_fields=False)), tuple(sorted(known)))


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a tree that run, and remove all docstrings from it, also those of fields and constants."""
    for name in BLOCKS:
        block = getattr(tree, name, None)
        if not isinstance(block, list):
            continue
        block[:] = [node for node in block if not _is_docstring(node)]
        if name == "body" and isinstance(tree, ast.If) and ast.unparse(tree.test) in CHECKED:
            continue
        for node in block:
            if isinstance(node, ast.stmt):
                yield node
            yield from _statements(node)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported(node: ast.stmt, package: str) -> list[str]:
    """Return names that may be imported modules: for `from a import b`, both `a` and `a.b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = package.split(".")
    base = above[: len(above) + 1 - node.level] if node.level else []
    where = ".".join([*base, *([node.module] if node.module else [])])
    return [where, *(f"{where}.{alias.name}" for alias in node.names)]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _below(module: str, packages: Collection[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@cache
def _file_of(module: str) -> Path | None:
    """Return the file of a module's source without importing it; None if there is none."""
    root, *parts = module.split(".")
    top = _root_of(root)
    if top is None or not parts:
        return top
    if top.name != "__init__.py":
        return None
    place = top.parent.joinpath(*parts)
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@cache
def _root_of(name: str) -> Path | None:
    found = getattr(sys.modules.get(name), "__file__", None)
    if found is None and name not in sys.modules:
        spec = importlib.util.find_spec(name)
        found = spec.origin if spec else None
    return Path(found) if found and Path(found).suffix == ".py" and Path(found).is_file() else None
