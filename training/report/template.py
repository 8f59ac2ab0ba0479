"""The blocks of a report page, and their HTML, which is rendered by the template report.html.j2.

Owns the escaping: Jinja2 escapes every string, so that labels and file names cannot add markup.
"""

import base64
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import ClassVar

import jinja2

TEMPLATE = "report.html.j2"  # beside this module
MAX_LIST_ITEMS = 50
PIXELS_PER_CSS_PIXEL = 2  # pictures are shown at half their size, which keeps them sharp on high-density screens


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file; `name` is without its suffix. `alt` describes the picture for readers who do not see it."""

    kind: ClassVar[str] = "picture"
    name: str
    png: bytes
    alt: str

    @property
    def data_uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def css_size(self) -> tuple[int, int]:
        """Width and height on the page, from the PNG's header."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width // PIXELS_PER_CSS_PIXEL, height // PIXELS_PER_CSS_PIXEL


@dataclass(frozen=True, slots=True)
class Cards:
    """Large values. Each entry has a name, a value and a note."""

    kind: ClassVar[str] = "cards"
    entries: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that scrolls if it is long. Columns from the index `numeric_from` on are aligned to the right.

    If there is a `summary`, the table is hidden until the reader clicks on the summary.
    """

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    numeric_from: int = 1
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values. Mappings and lists among the values are shown as nested tables and lists."""

    kind: ClassVar[str] = "facts"
    values: Mapping[str, object]


Block = Text | Picture | Cards | Table | Facts


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the blocks below it."""

    title: str
    blocks: tuple[Block, ...]


def render_page(title: str, subtitle: str, sections: Iterable[Section]) -> str:
    """A complete HTML page that needs no other file. Its policy forbids browsers to load or run anything."""
    return _load_template().render(title=title, subtitle=subtitle, sections=sections)


def format_value(value: object) -> str:
    """A value as text. Missing values become a dash, and floats have at most six digits."""
    match value:
        case None | "":
            return "\u2013"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


@cache
def _load_template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["format_value"] = format_value
    environment.filters["first_items"] = lambda items: list(islice(items, MAX_LIST_ITEMS))
    environment.tests["list"] = lambda value: isinstance(value, list | tuple)
    return environment.get_template(TEMPLATE)
