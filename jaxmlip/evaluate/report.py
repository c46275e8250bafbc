"""A report as one HTML file: tables, figures, settings and versions, with no script, no network and no other file.

It knows nothing of studies: whoever has results turns them into sections of text, tables and figures.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from jaxmlip.evaluate.style import data_address
from jaxmlip.files import atomic_path


class Table(NamedTuple):
    """Cells are text or numbers (four digits shown; None and NaN as an em dash); ``note`` stands below."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    note: str = ""


class Picture(NamedTuple):
    """A figure with the sentence that says what it shows, which is also its text for those who cannot see it."""

    figure: Figure
    caption: str


class Section(NamedTuple):
    """A heading, paragraphs of plain text, then tables, then figures."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


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
    links = "".join(f'<li><a href="#s{i}">{escape(s.title)}</a></li>' for i, s in enumerate(chapters))
    body = "\n".join(_section(i, section) for i, section in enumerate(chapters))
    details = _details(record) if record else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{CSS}</style></head>\n'
        f"<body><main><h1>{escape(title)}</h1>{_byline(record)}<nav><ul>{links}</ul></nav>\n{body}\n{details}"
        f"</main></body></html>\n"
    )


def _section(index: int, section: Section) -> str:
    parts = [f'<section id="s{index}"><h2>{escape(section.title)}</h2>']
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.text]
    parts += [_table(table) for table in section.tables]
    parts += [_picture(picture) for picture in section.pictures]
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    numeric = [_is_numeric([row[k] for row in table.rows]) for k in range(len(table.columns))]
    kinds = [' class="n"' if is_number else "" for is_number in numeric]
    pairs = zip(kinds, table.columns, strict=True)
    head = "".join(f'<th scope="col"{kind}>{escape(column)}</th>' for kind, column in pairs)
    lines = []
    for row in table.rows:
        cells = zip(kinds, row, strict=True)
        lines.append("<tr>" + "".join(f"<td{kind}>{escape(cell_text(cell))}</td>" for kind, cell in cells) + "</tr>")
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{note}"
    )


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
    return (
        f'<figure><img alt="{caption}" src="{data_address(picture.figure)}"><figcaption>{caption}</figcaption></figure>'
    )


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


CSS = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1d2733; font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid #d9dee5; }
p { max-width: 46rem; margin: .5rem 0; }
nav ul { list-style: none; padding: 0; margin: .8rem 0; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; }
a { color: #0a5ea8; }
.wide { overflow-x: auto; margin: 1rem 0 .4rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
th, td { padding: .28rem .9rem .28rem 0; text-align: left; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; white-space: normal; vertical-align: bottom; border-bottom: 1.5px solid #1d2733; }
td { border-bottom: 1px solid #e7ebf0; }
th.n, td.n { text-align: right; padding: .28rem .4rem .28rem .9rem; }
.note, figcaption { color: #56616d; font-size: .85rem; }
figure { margin: 1.2rem 0; }
img { max-width: 100%; height: auto; }
pre { background: #f5f7f9; padding: .8rem; overflow-x: auto; font-size: .8rem; white-space: pre-wrap; }
@media print {
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; } nav { display: none; }
  h2 { break-after: avoid; } figure, table { break-inside: avoid; } .wide { overflow: visible; }
}
"""
