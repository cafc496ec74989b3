"""Tables as CSV files: a row is a NamedTuple, the header its field names, which end in a unit.

Numbers that are no whole ones have six significant digits, so a file is the same wherever its
figures are the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

Row = dict[str, str]


class Table(NamedTuple):
    """A table to be written; ``fields`` are those of its rows, and say what they are if none is."""

    name: str
    fields: tuple[str, ...]
    rows: Sequence[NamedTuple]


def to_csv(table: Table) -> str:
    """Return a table as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.fields)
    for row in table.rows:
        writer.writerow(f"{each:.6g}" if isinstance(each, float) else each for each in row)
    return text.getvalue()


def write_table(folder: Path, table: Table) -> Path:
    """Write one table into ``folder``; return its path."""
    path = folder / f"{table.name}.csv"
    path.write_text(to_csv(table), encoding="utf-8")
    return path


def read_table(folder: Path, name: str) -> list[Row]:
    """Return the rows of a table as they were written; FileNotFoundError if there is none."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
