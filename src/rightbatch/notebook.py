"""A small HTML table, for results in notebooks and for the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = ""
) -> str:
    """A plain `<table>`; every text is escaped.

    >>> html_table(["size"], [["<b>32</b>"]])
    '<table><thead><tr><th>size</th></tr></thead><tbody><tr><td>&lt;b&gt;32&lt;/b&gt;</td>...'
    """
    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(value))}</td>' for value in row)}</tr>" for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
