"""Sums the numeric columns of a CSV text whose first line names them.

    hearth deploy sums examples/python --runtime python
    hearth invoke sums --payload '{"csv": "item,price\\ntea,2.10\\nbun,0.95\\n"}'

Sums are exact: decimal numbers, answered as strings. A column with a cell that is no number is left out by name.
"""

import csv
import io
from decimal import Decimal, InvalidOperation


def handler(event, context):
    text = event.get("csv") if isinstance(event, dict) else None
    if not isinstance(text, str):
        raise ValueError('"csv" must be a string')
    reader = csv.reader(io.StringIO(text), strict=True)
    columns = next(reader, None)
    if not columns:
        raise ValueError("the first line must name the columns")

    sums = {name: Decimal(0) for name in columns}
    if len(sums) != len(columns):
        raise ValueError("a column's name stands twice")
    words, rows = [], 0
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(columns):
            raise ValueError(f"line {reader.line_num}: {len(cells)} cells for {len(columns)} columns")
        rows += 1
        for name, cell in zip(columns, cells):
            if name not in sums or cell.strip() == "":
                continue
            number = decimal(cell)
            if number is None:
                del sums[name]
                words.append(name)
            else:
                sums[name] += number
    return {"rows": rows, "sums": {name: str(total) for name, total in sums.items()}, "not_numeric": words}


def decimal(cell):
    """The number in a cell, or None."""
    try:
        number = Decimal(cell.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
