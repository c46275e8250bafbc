"""A report as one HTML file: tables, figures, settings and versions, with no network and no other file.

It knows nothing of studies: whoever has results turns them into sections of text, tables, charts and figures. Without
scripts it is complete; with them tables can be sorted and charts replace some figures, on a screen though not in print.
The page's own policy forbids every address and every script but these.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from jaxmlip.evaluate.report_charts import Curves, Scatter, chart_html
from jaxmlip.evaluate.style import data_address
from jaxmlip.files import atomic_path

_LONG = 24  # rows, from which a table scrolls below its head
_WIDE = 30  # characters, from which the text of a cell is broken into lines


class Table(NamedTuple):
    """Cells are text or numbers (four digits shown; None and NaN as an em dash); ``note`` stands below.

    The last ``n_summary`` rows are about the others: they stay below them however these are sorted.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    note: str = ""
    n_summary: int = 0


class Picture(NamedTuple):
    """A figure with the sentence that says what it shows, which is also its text for those who cannot see it.

    One with a ``has_chart`` is shown in print and without scripts, where the section's charts are not.
    """

    figure: Figure
    caption: str
    has_chart: bool = False


class Section(NamedTuple):
    """A heading, paragraphs of plain text, then tables, charts and figures."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    charts: Sequence[Scatter | Curves] = ()


def write_report(
    path: str | Path,
    title: str,
    *,
    sections: Sequence[Section],
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write ``report.html``, whole or not at all. All text is escaped.

    >>> import tempfile
    >>> page = Path(tempfile.mkdtemp()) / "report.html"
    >>> write_report(page, "Li & O", sections=[Section("Errors", tables=[Table(["family"], [["<snap>"]])])])
    >>> "&lt;snap&gt;" in page.read_text(encoding="utf-8")
    True

    Args:
        path: the file; its folder exists.
        title: of the page.
        sections: in the order of the page; a list of links to them stands on top.
        record: settings, versions, date, command (see `provenance`), shown at the end.

    Raises:
        FileNotFoundError: the folder of ``path`` does not exist.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(html(title, sections, record or {}), encoding="utf-8")


def html(title: str, sections: Sequence[Section], record: Mapping[str, Any]) -> str:
    """The page as text."""
    chapters = [*sections, *([_settings(record)] if record else [])]
    styles = _asset("report.css")
    script = "\n".join(map(_asset, ("report.js", "report_drawing.js", "report_charts.js")))
    policy = f"default-src 'none'; img-src data:; style-src {_hash(styles)}; script-src {_hash(script)}"
    policy += "; base-uri 'none'; form-action 'none'"
    links = "".join(f'<li><a href="#s{i}">{escape(s.title)}</a></li>' for i, s in enumerate(chapters))
    body = "\n".join(_section(i, section) for i, section in enumerate(chapters))
    details = _details(record) if record else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{styles}</style></head>\n'
        f"<body><main><h1>{escape(title)}</h1>{_byline(record)}<nav><ul>{links}</ul></nav>\n{body}\n{details}"
        f"</main><script>{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return resources.files("jaxmlip.evaluate").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source of the page's policy: exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _section(index: int, section: Section) -> str:
    parts = [f'<section id="s{index}"><h2>{escape(section.title)}</h2>']
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.text]
    parts += [_table(table) for table in section.tables]
    parts += [chart_html(100 * index + number, chart) for number, chart in enumerate(section.charts)]
    parts += [_picture(picture) for picture in section.pictures]
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    numeric = [_is_numeric([row[k] for row in table.rows]) for k in range(len(table.columns))]
    kinds = [' class="n"' if is_number else "" for is_number in numeric]
    pairs = zip(kinds, table.columns, strict=True)
    head = "".join(f'<th scope="col"{kind}>{escape(column)}</th>' for kind, column in pairs)
    lines = [_row(kinds, row) for row in table.rows]
    n_body = len(lines) - table.n_summary
    summary = f"<tfoot>{''.join(lines[n_body:])}</tfoot>" if table.n_summary else ""
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="wide{" long" if n_body > _LONG else ""}"><table>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines[:n_body])}</tbody>{summary}</table></div>{note}"
    )


def _row(kinds: Sequence[str], row: Sequence[Any]) -> str:
    """Numbers carry all their digits as ``data-value``, to be sorted by."""
    cells = []
    for kind, cell in zip(kinds, row, strict=True):
        value = f' data-value="{float(cell)!r}"' if _is_numeric([cell]) and cell == cell else ""
        text = cell_text(cell)
        shown = ' class="w"' if not kind and len(text) >= _WIDE else kind
        cells.append(f"<td{shown}{value}>{escape(text)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _is_numeric(cells: Sequence[Any]) -> bool:
    """Whether a column is set to the right: numbers, perhaps with gaps or words where a number is missing."""
    return any(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in cells)


def cell_text(cell: Any) -> str:
    """A cell as people read it: four significant digits, no exponent for everyday sizes.

    >>> [cell_text(value) for value in (0.28571, 75.123, 1234.56, 3, None, float("nan"), "ran away")]
    ['0.2857', '75.12', '1235', '3', '—', '—', 'ran away']
    """
    if cell is None or (isinstance(cell, float) and cell != cell):
        return "—"
    if isinstance(cell, float):
        return f"{cell:.0f}" if 1000 <= abs(cell) < 1e6 else f"{cell:.4g}"
    return str(cell)


def _picture(picture: Picture) -> str:
    caption = escape(picture.caption)
    kind = ' class="has-chart"' if picture.has_chart else ""
    image = f'<img alt="{caption}" src="{data_address(picture.figure)}">'
    return f"<figure{kind}>{image}<figcaption>{caption}</figcaption></figure>"


def _byline(record: Mapping[str, Any]) -> str:
    versions = record.get("versions") or {}
    words = [str(record.get("date", "")), f"jaxmlip {versions['jaxmlip']}" if "jaxmlip" in versions else ""]
    return f'<p class="note">{escape(" · ".join(word for word in words if word))}</p>'


def _settings(record: Mapping[str, Any]) -> Section:
    versions = Table(["package", "version"], [[k, str(v)] for k, v in (record.get("versions") or {}).items()])
    machine = Table(["machine", ""], [[k, str(v)] for k, v in (record.get("machine") or {}).items()])
    command = " ".join(map(str, record.get("command", ())))
    text = [f"Command: {command}"] if command else []
    return Section("How this was made", text, [table for table in (versions, machine) if table.rows])


def _details(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, indent=2, ensure_ascii=False, default=str)
    return f"<details><summary>All settings as JSON</summary><pre>{escape(text)}</pre></details>"
