"""What the site has beside `docs/`: the notes in `design/`, under the same links as in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DESIGN = Path(__file__).parents[1] / "design"


def on_files(files: Files, config: Any) -> Files:
    """Add the design notes."""
    for note in sorted(DESIGN.glob("*.md")):
        files.append(File.generated(config, f"design/{note.name}", abs_src_path=str(note)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links between `docs/` and `design/` at where the site has them: the one is inside of the other there."""
    if page.file.src_uri.startswith("design/"):
        return markdown.replace("](../docs/", "](../")
    return re.sub(r"\]\((?:\.\./)+design/", "](../design/" if "/" in page.file.src_uri else "](design/", markdown)
