"""Pages: sound HTML that needs no other file, whatever the names on it are made of."""

import base64
import io

from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tests.fakes.pages import Page
from training.report.template import (
    LONGEST_LIST,
    Html,
    Picture,
    Section,
    details,
    document,
    escaped,
    facts,
    headline,
    table,
)


def page(*parts: str | Picture, title: str = "A title") -> Page:
    return Page(document(title, "And more", [Section("A heading", parts)]))


@given(st.text())
@example("<script>alert(1)</script>")
@example('" onload="alert(1)')
@example("&amp;</td></title></style>")
def test_names_are_shown_as_they_are(name: str) -> None:
    """A string adds no tag wherever it stands, and is read back as it was."""
    png = io.BytesIO()
    Image.new("L", (4, 2)).save(png, "PNG")

    def with_name(name: str) -> Page:
        return page(
            *(name, Picture("x", png.getvalue(), name), headline([(name, name, name)])),
            *(table((name, name), [(name, name)]), facts({name: [name, {name: name}]}), details(name, Html("<p></p>"))),
            title=name,
        )

    plain, found = with_name("x"), with_name(name)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    if name:
        assert found.attributes("img")[0]["alt"] == name
        for tag in ("title", "h1", "p", "dt", "dd", "small", "th", "td", "li", "summary"):
            assert name in found.inside(tag)


def test_nothing_is_loaded_and_nothing_runs() -> None:
    """The page's own policy forbids it."""
    [policy] = [
        meta["content"] for meta in page().attributes("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_are_on_the_page_itself() -> None:
    """The PNG's bytes, at half its size, with a text for those who do not see it."""
    png = io.BytesIO()
    Image.new("RGB", (400, 300)).save(png, "PNG")
    [image] = page(Picture("name", png.getvalue(), "what it shows")).attributes("img")
    source = base64.b64encode(png.getvalue()).decode()
    assert image == {"src": f"data:image/png;base64,{source}", "width": "200", "height": "150", "alt": "what it shows"}


def test_values_are_written_for_people() -> None:
    """Yes and no, a dash for nothing, six digits of a float, and markup only where it is meant."""
    values = (True, False, None, "", 5e-4, 1 / 3, 50_000, "<b>", Html("<b>"))
    assert [*map(escaped, values)] == ["yes", "no", "–", "–", "0.0005", "0.333333", "50000", "&lt;b&gt;", "<b>"]  # noqa: RUF001


def test_numbers_are_flush_right() -> None:
    """The columns from an index on, in the head and in the body."""
    found = page(table(("a", "b", "c"), [("x", "y", 1), ("z", None, 2)], numbers=2))
    assert found.rows == [["a", "b", "c"], ["x", "y", "1"], ["z", "–", "2"]]  # noqa: RUF001
    cells = [attributes.get("class") for tag, attributes in found.tags if tag in ("th", "td")]
    assert cells == [None, None, "number"] * 3


def test_facts_have_parts() -> None:
    """Mappings are tables, sequences lists, which end with how many were left out; empty ones are none."""
    found = page(facts({"splits": {"train": {"images": 5}}, "files": ["a", "b"], "nothing": [], "no": {}}))
    assert [row[0] for row in found.rows] == ["splits", "train", "images", "files", "nothing", "no"]
    assert found.rows[-2:] == [["nothing", "none"], ["no", "none"]]
    assert len(found.attributes("li")) == 2
    long = page(facts({"files": list(range(LONGEST_LIST + 3))}))
    assert len(long.attributes("li")) == LONGEST_LIST + 1
    assert long.inside("li")[-1] == "and 3 more"
