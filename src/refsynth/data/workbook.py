"""Writes the rows of a workbook's sheet as JSON lines to standard output, in a process of its own with bounded memory.

A workbook is an archive: a few kilobytes may unpack to more than any machine's memory, and then the library aborts its
process. To turn this into an error message, `data.excel` runs this module: `python -m refsynth.data.workbook FILE MEGABYTES
[SHEET]`. The first line names the sheets, the last is `{"end": true}`; between them are the rows with their numbers in the
sheet. A text cell is a string; any other cell is a list of one string, its spelling.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

from refsynth.core.value import spell

MINUTES = 10
"""Limit of processor time."""


def main() -> None:
    """Write the rows of a sheet, or what is wrong with the file."""
    path, megabytes, *sheet = sys.argv[1:]
    _limit(int(megabytes))
    for line in _lines(path, sheet[0] if sheet else None):
        sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _limit(megabytes: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (60 * MINUTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _lines(path: str, named: str | None) -> Iterator[Any]:
    try:
        book = CalamineWorkbook.from_path(path)
        shown = [
            sheet.name
            for sheet in book.sheets_metadata
            if sheet.typ == SheetTypeEnum.WorkSheet and (sheet.visible == SheetVisibleEnum.Visible or sheet.name == named)
        ]
        if (name := named or next(iter(shown), None)) not in shown:
            yield {"error": "sheet", "sheets": book.sheet_names}
            return
        rows = book.get_sheet_by_name(str(name))
        yield {"sheet": name, "sheets": shown}
        for number, cells in enumerate(rows.iter_rows(), 1):
            values = [_encoded(cell) for cell in cells]
            if any(values):
                yield [number, values]
    except PasswordError:
        yield {"error": "password"}
    except (CalamineError, ValueError, OSError) as error:
        yield {"error": "damaged", "why": str(error).partition("\n")[0][:120]}
    else:
        yield {"end": True}


def _encoded(cell: Any) -> Any:
    """Return a text unchanged, any other value as a list of its spelling, and None for an empty cell."""
    return (cell or None) if isinstance(cell, str) else [text] if (text := spell(cell)) else None


if __name__ == "__main__":
    main()
