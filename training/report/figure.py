"""The common look of the report's figures, and how they become PNG files.

Owns the style, the rendering, and how labels are shortened. Leaves matplotlib's global state as it is.
"""

import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

P = ParamSpec("P")

WIDTH = 10.0  # inches, the width of the page
DOTS_PER_INCH = 192  # twice the resolution of the page
BLUE, ORANGE, GREY = "#2b6ca3", "#d2601a", "#8a8a8a"
STYLE = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.h_pad": 0.1,  # inches
    "figure.constrained_layout.w_pad": 0.1,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # a label can contain dollar signs
}
MAX_NAME_LENGTH = 16  # characters


def render_to_png(plot: Callable[P, Figure]) -> Callable[P, bytes]:
    """Makes a function that returns a figure return a PNG file's bytes.

    The figure uses matplotlib's default settings and STYLE, whatever the user's settings are.
    """

    @wraps(plot)
    def render(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with style.context(["default", STYLE]):
            figure, file = plot(*args, **kwargs), io.BytesIO()
            FigureCanvasAgg(figure)
            figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
        return file.getvalue()

    return render


def shorten_labels(labels: Sequence[str]) -> list[str]:
    """The labels on one line each.

    Long labels lose their middle. A label with characters that the font does not have becomes `label INDEX`.
    """
    available = get_font(findfont(FontProperties())).get_charmap()
    names = []
    for i, label in enumerate(labels):
        name = " ".join(label.split())
        if not name or any(ord(character) not in available for character in name):
            name = f"label {i}"
        names.append(name if len(name) <= MAX_NAME_LENGTH else f"{name[:9]}…{name[-6:]}")
    return names
