"""A page of HTML that needs no other file: its stylesheet, and the few things that stand on it.

Owns all escaping: a `str` that goes in is shown as it is, only `Html` is taken for markup. Knows nothing
of training.
"""

import base64
import html
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LONGEST_LIST = 50
PIXELS_PER_UNIT = 2  # of a picture to one of the page's, so that it is sharp on fine screens too
STYLE = """\
:root { color-scheme: light dark; --soft: color-mix(in srgb, CanvasText 65%, Canvas); --line: #8884; --card: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.75rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .5rem 0 1rem; }
header p, small { color: var(--soft); overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.headline div { background: var(--card); border-radius: 6px; padding: .75rem 1rem; }
dt, dd { margin: 0; }
dd { font-size: 1.4rem; font-variant-numeric: tabular-nums; }
dd small { display: block; font-size: .85rem; }
.scroll { overflow: auto; max-height: 42rem; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem 1.25rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
tbody th { font-weight: 400; }
thead th { position: sticky; top: 0; background: Canvas; }
th.number, td.number { text-align: right; }
th:last-child, td:last-child { padding-right: 0; }
.facts th { color: var(--soft); white-space: nowrap; }
.facts .facts { margin: -.2rem 0; }
.facts .facts tr:last-child > * { border: 0; }
td { overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.1rem; }
summary { cursor: pointer; }
"""


class Html(str):
    """Markup that is sound already."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file, `name` without its suffix; `alt` says its main fact to those who do not see it."""

    name: str
    png: bytes
    alt: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it; a plain `str` is a paragraph."""

    title: str
    parts: tuple[str | Picture, ...]


def document(title: str, subtitle: str, sections: Iterable[Section]) -> str:
    """The whole page. Browsers are told to load nothing and to run nothing."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    body = "\n".join(map(_section, sections))
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>
{STYLE}</style>
</head>
<body>
<header><h1>{escaped(title)}</h1><p>{escaped(subtitle)}</p></header>
<main>
{body}
</main>
</body>
</html>
"""


def escaped(value: object) -> Html:
    """Anything as text; nothing is a dash, and floats have six digits at most."""
    match value:
        case Html():
            return value
        case None | "":
            return Html("\u2013")
        case bool():
            return Html("yes" if value else "no")
        case float():
            return Html(f"{value:g}")
        case _:
            return Html(html.escape(str(value)))


def headline(entries: Iterable[tuple[str, str, str]]) -> Html:
    """Names, large values, and a small line to each."""
    cards = (f"<div><dt>{a}</dt><dd>{b}<small>{c}</small></dd></div>" for a, b, c in _escaped_rows(entries))
    return Html(f'<dl class="headline">{"".join(cards)}</dl>')


def table(header: Sequence[str], rows: Iterable[Sequence[object]], numbers: int = 1) -> Html:
    """A table that scrolls where it is long; its columns from the index `numbers` on are flush right."""
    marks = [' class="number"' if column >= numbers else "" for column in range(len(header))]
    head = "".join(f'<th scope="col"{mark}>{escaped(name)}</th>' for name, mark in zip(header, marks, strict=True))
    body = "".join(
        f'<tr><th scope="row"{marks[0]}>{first}</th>'
        + "".join(f"<td{mark}>{cell}</td>" for cell, mark in zip(cells, marks[1:], strict=True))
        + "</tr>\n"
        for first, *cells in _escaped_rows(rows)
    )
    where = f'class="scroll" role="group" tabindex="0" aria-label="{escaped(", ".join(header))}"'
    return Html(f"<div {where}><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>")


def facts(values: Mapping[str, object]) -> Html:
    """Names and whatever values, tables in tables where these have parts."""
    if not values:
        return Html("none")
    rows = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td>{_fact(value)}</td></tr>\n' for name, value in values.items()
    )
    return Html(f'<table class="facts"><tbody>\n{rows}</tbody></table>')


def details(summary: str, content: Html) -> Html:
    """Content that shows when it is asked for."""
    return Html(f"<details><summary>{escaped(summary)}</summary>{content}</details>")


def _escaped_rows(rows: Iterable[Sequence[object]]) -> Iterable[list[Html]]:
    return ([escaped(cell) for cell in row] for row in rows)


def _fact(value: object) -> Html:
    match value:
        case Mapping():
            return facts(value)
        case list() | tuple():
            items = [f"<li>{_fact(item)}</li>" for item in value[:LONGEST_LIST]]
            if (more := len(value) - LONGEST_LIST) > 0:
                items.append(f"<li>and {more} more</li>")
            return Html(f"<ul>{''.join(items)}</ul>" if items else "none")
        case _:
            return escaped(value)


def _section(section: Section) -> str:
    return "\n".join([f"<section><h2>{escaped(section.title)}</h2>", *map(_part, section.parts), "</section>"])


def _part(part: str | Picture) -> str:
    match part:
        case Html():
            return part
        case Picture():
            width, height = (side // PIXELS_PER_UNIT for side in struct.unpack(">II", part.png[16:24]))
            source, alt = base64.b64encode(part.png).decode(), escaped(part.alt)
            size = f'width="{width}" height="{height}"'
            return f'<figure><img src="data:image/png;base64,{source}" {size} alt="{alt}"></figure>'
        case _:
            return f"<p>{escaped(part)}</p>"
