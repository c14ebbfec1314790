"""Names: no two classes of the package share one, so that a name says which class is meant wherever it stands."""

import ast
from collections import defaultdict
from pathlib import Path

import refsynth

SOURCE = Path(refsynth.__file__).parent


def test_no_two_classes_share_a_name():
    homes = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(path.relative_to(SOURCE).as_posix())
    assert len(homes) > 300
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
