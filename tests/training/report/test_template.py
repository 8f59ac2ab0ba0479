"""The report page: valid HTML that needs no other file, whatever characters the names on it contain."""

import base64
import io

from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tests.fakes.pages import Page
from training.report.template import (
    MAX_LIST_ITEMS,
    Block,
    Cards,
    Facts,
    Picture,
    Section,
    Table,
    Text,
    format_value,
    render_page,
)


def page(*blocks: Block, title: str = "A title", heading: str = "A heading") -> Page:
    return Page(render_page(title, "A subtitle", [Section(heading, blocks)]))


@given(st.text())
@example("<script>alert(1)</script>")
@example('" onload="alert(1)')
@example("' onload='alert(1)")
@example("{{ 1 + 1 }}{% raw %}{# #}")
@example("&amp;</td></title></style>")
def test_names_are_escaped(name: str) -> None:
    """A string adds no tag wherever it is on the page, and it is shown unchanged."""
    png = io.BytesIO()
    Image.new("L", (4, 2)).save(png, "PNG")

    def with_name(name: str) -> Page:
        return page(
            *(Text(name), Picture("x", png.getvalue(), name), Cards([(name, name, name)])),
            *(Table((name, name), [(name, name)]), Facts({name: [name, {name: name}]})),
            Table(("a",), [], summary=name or "x"),
            title=name,
            heading=name,
        )

    plain, found = with_name("x"), with_name(name)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    if name:
        assert found.attributes("img")[0]["alt"] == name
        assert found.attributes("div")[-2]["aria-label"] == f"{name}, {name}"
        for tag in ("title", "h1", "h2", "p", "dt", "dd", "small", "th", "td", "li", "summary"):
            assert name in found.inside(tag)


def test_the_page_loads_and_runs_nothing() -> None:
    """The policy of the page forbids it."""
    [policy] = [
        meta["content"] for meta in page().attributes("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_are_part_of_the_page() -> None:
    """The page has the PNG's bytes, shown at half the size, and a text for readers who do not see it."""
    png = io.BytesIO()
    Image.new("RGB", (400, 300)).save(png, "PNG")
    [image] = page(Picture("name", png.getvalue(), "what it shows")).attributes("img")
    source = base64.b64encode(png.getvalue()).decode()
    assert image == {"src": f"data:image/png;base64,{source}", "width": "200", "height": "150", "alt": "what it shows"}


def test_values_are_formatted_for_readers() -> None:
    """Yes and no, a dash for a missing value, and at most six digits of a float. Markup is no exception."""
    values = (True, False, None, "", 5e-4, 1 / 3, 50_000, "<b>")
    assert [*map(format_value, values)] == ["yes", "no", "–", "–", "0.0005", "0.333333", "50000", "<b>"]  # noqa: RUF001
    assert "&lt;b&gt;" in render_page("<b>", "", [])


def test_numbers_are_aligned_to_the_right() -> None:
    """This holds for the columns from an index on, in the head and in the body."""
    found = page(Table(("a", "b", "c"), [("x", "y", 1), ("z", None, 2)], numeric_from=2))
    assert found.rows == [["a", "b", "c"], ["x", "y", "1"], ["z", "–", "2"]]  # noqa: RUF001
    cells = [attributes.get("class") for tag, attributes in found.tags if tag in ("th", "td")]
    assert cells == [None, None, "number"] * 3


def test_facts_can_be_nested() -> None:
    """Mappings are tables and sequences are lists. A long list ends with the number of items left out."""
    found = page(Facts({"splits": {"train": {"images": 5}}, "files": ["a", "b"], "nothing": [], "no": {}}))
    assert [row[0] for row in found.rows] == ["splits", "train", "images", "files", "nothing", "no"]
    assert found.rows[-2:] == [["nothing", "none"], ["no", "none"]]
    assert len(found.attributes("li")) == 2
    long = page(Facts({"files": list(range(MAX_LIST_ITEMS + 3))}))
    assert len(long.attributes("li")) == MAX_LIST_ITEMS + 1
    assert long.inside("li")[-1] == "and 3 more"
