"""Reads Parquet files as records. All columns are read, lists and structures included; UTF-8 bytes become texts.

The metadata of a file of Hugging Face `datasets` name the classes of its columns: their numbers become names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from refsynth.core.errors import DataError
from refsynth.core.extras import require
from refsynth.data.footer import unpacked
from refsynth.data.source import ROW_LIMIT
from refsynth.data.table import Fault, Table, TableRecord, plain

LARGEST = 4 << 30
"""Most bytes of a row group when unpacked: it is read whole."""

_SLICE = 10_000  # rows of the file in memory at a time
_BUFFER = 16  # rows as Python values at a time: each may have ROW_LIMIT characters


def open_parquet(path: Path, stream: IO[bytes]) -> Table:
    """Return a Parquet file as a table.

    Raises:
        DataError: the file is damaged, not Parquet, or too large for the memory.
    """
    magic = stream.read(4)
    if magic != b"PAR1":
        raise DataError(
            f"{path}: is empty" if not magic else f"{path}: is not Parquet, despite its name",
            remedy="give it the suffix of its format: .csv, .tsv or .jsonl",
        )
    if (size := unpacked(stream) or 0) > LARGEST:
        raise DataError(
            f"{path}: a row group unpacks to {size / (1 << 30):,.1f} GB, more than {LARGEST >> 30}",
            remedy="write it with smaller row groups",
        )
    polars = require("polars", extra="train")
    try:
        schema = polars.read_parquet_schema(path)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        raise DataError(f"{path}: damaged Parquet ({_brief(error)})", remedy="write it again") from error
    return Table("parquet", "utf-8", "", tuple(schema), _records(path, schema), [])


def _records(path: Path, schema: Any) -> Iterator[TableRecord | Fault]:
    polars = require("polars", extra="train")
    frame = polars.scan_parquet(path)
    size, names = _size(schema), _class_names(path)
    row = 0
    while True:
        try:
            part = frame.slice(row, _SLICE).collect()
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
            raise DataError(f"{path}: cannot be read after row {row} ({_brief(error)})", remedy="write it again") from error
        fits = part.select((size <= ROW_LIMIT).alias("fits"))["fits"] if schema else []
        for start in range(0, len(part), _BUFFER):
            here = fits[start : start + _BUFFER]
            kept = part.slice(start, _BUFFER).filter(here).iter_rows(named=True, buffer_size=_BUFFER)
            for whole in here:
                row += 1
                if whole:
                    cells = next(kept).items()
                    yield TableRecord(row, None, {key: _named(plain(value), names.get(key, ())) for key, value in cells})
                else:
                    yield Fault(row, None, f"longer than {ROW_LIMIT:,} bytes")
        if len(part) < _SLICE:
            return


def _size(schema: Any) -> Any:
    """Return the expression for the size of a row: the bytes of its texts plus the items of its lists."""
    polars = require("polars", extra="train")
    parts = [polars.repeat(0, polars.len(), dtype=polars.Int64)]  # a size per row even if no column has one
    for name, kind in schema.items():
        column = polars.col(name)
        if kind == polars.String:
            parts.append(column.str.len_bytes())
        elif kind == polars.Binary:
            parts.append(column.bin.size())
        elif kind == polars.List(polars.String):
            parts.append(column.list.eval(polars.element().str.len_bytes()).list.sum())
        elif isinstance(kind, polars.List):
            parts.append(column.list.len())
    return polars.sum_horizontal([part.cast(polars.Int64).fill_null(0) for part in parts])


def _class_names(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the class names of each column of classes or of lists of classes; empty if the file has no such metadata."""
    polars = require("polars", extra="train")
    try:
        features = json.loads(polars.read_parquet_metadata(path)["huggingface"])["info"]["features"]
        return {column: names for column, feature in features.items() if (names := _names(feature))}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _names(feature: Any) -> tuple[str, ...]:
    while isinstance(feature, (dict, list)) and "names" not in feature:
        feature = feature[0] if isinstance(feature, list) and feature else feature.get("feature") if feature else None
    names = feature["names"] if isinstance(feature, dict) and feature.get("_type", "ClassLabel") == "ClassLabel" else ()
    return tuple(map(str, names))


def _named(value: Any, names: Sequence[str]) -> Any:
    """Return names for class numbers. -1 means no label; other numbers without a name stay."""
    if not names:
        return value
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return names[value] if 0 <= value < len(names) else None if value == -1 else value
    return value


def _brief(error: BaseException) -> str:
    return str(error).partition("\n")[0][:120]
