"""The rows of a workbook's sheet as JSON lines on standard output, in a process of its own with bounded memory.

A workbook is an archive: a few kilobytes may unpack to more than any machine has, and the library that reads it then ends its
process. So that this is an error like others, `data.excel` runs this module: `python -m refsynth.data.workbook FILE MEGABYTES
[SHEET]`. The first line names the sheets, the last is `{"end": true}`; between them are rows, each with its number in the sheet.
A text is one there too; any other cell stands spelled in brackets.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

from refsynth.core.value import spell

MINUTES = 10
"""Of processor time, at most."""


def main() -> None:
    """Write the rows of a sheet, or what is wrong with the file."""
    path, megabytes, *wanted = sys.argv[1:]
    _limit(int(megabytes))
    for line in _lines(path, wanted[0] if wanted else None):
        sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _limit(megabytes: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (60 * MINUTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _lines(path: str, wanted: str | None) -> Iterator[Any]:
    try:
        book = CalamineWorkbook.from_path(path)
        shown = [
            sheet.name
            for sheet in book.sheets_metadata
            if sheet.typ == SheetTypeEnum.WorkSheet and (sheet.visible == SheetVisibleEnum.Visible or sheet.name == wanted)
        ]
        if (name := wanted or next(iter(shown), None)) not in shown:
            yield {"error": "sheet", "sheets": book.sheet_names}
            return
        rows = book.get_sheet_by_name(str(name))
        yield {"sheet": name, "sheets": shown}
        for number, cells in enumerate(rows.iter_rows(), 1):
            values = [_told(cell) for cell in cells]
            if any(values):
                yield [number, values]
    except PasswordError:
        yield {"error": "password"}
    except (CalamineError, ValueError, OSError) as error:
        yield {"error": "damaged", "why": str(error).partition("\n")[0][:120]}
    else:
        yield {"end": True}


def _told(cell: Any) -> Any:
    """Return a text as it is, a number, truth value or moment spelled and in brackets, None for nothing."""
    return (cell or None) if isinstance(cell, str) else [text] if (text := spell(cell)) else None


if __name__ == "__main__":
    main()
