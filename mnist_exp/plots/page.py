"""What all figures share: the page with its header, axes placed in inches, colours, words.

Axes are placed under a header that grows with its text, so nothing overlaps and no layout engine
has to draw everything twice.
"""

import re
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

# Okabe and Ito's colours, told apart with any colour vision; blue is right, vermillion is wrong.
BLUE, VERMILLION = "#0072B2", "#D55E00"
INK, GREY, PALE, TILE = "#222222", "#6B7280", "#D1D5DB", "#F1F3F5"
# Without their yellow, which is lost on white.
LINES = [BLUE, VERMILLION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]

Array = NDArray[Any]


def page(width: float, height: float, title: str, note: str) -> Figure:
    """A figure with `height` inches of body under a header as high as title and note need."""
    heading = _lines(title, width - 0.7, size=12, weight="bold")
    lines = _lines(note, width - 0.7, size=9)
    top = round(0.35 + 0.22 * len(heading) + 0.17 * len(lines), 2)
    figure = Figure(figsize=(width, height + top), dpi=100)
    x, y = 0.25 / width, (height + top - 0.15) / (height + top)
    look: dict[str, Any] = {"va": "top", "parse_math": False, "linespacing": 1.2}
    figure.text(x, y, "\n".join(heading), fontsize=12, fontweight="bold", color=INK, **look)
    y -= (0.22 * len(heading) + 0.04) / (height + top)
    figure.text(x, y, "\n".join(lines), fontsize=9, color=GREY, **look)
    return figure


def _lines(text: str, width: float, **font: Any) -> list[str]:
    """The text in as many lines as its letters need in `width` inches."""
    look = FontProperties(**font)
    text = re.sub(r" (?=%)|(?<=%) ", "\N{NO-BREAK SPACE}", text)  # no line ends at "95 %"
    columns, lines = len(text), [text]
    while columns > 1:
        sizes = (text_to_path.get_text_width_height_descent(line, look, False) for line in lines)
        widest = max(size[0] for size in sizes) / 72
        if widest <= width:
            break
        columns = min(columns - 1, int(columns * width / widest))
        lines = wrap(text, max(1, columns), break_on_hyphens=False)
    return lines


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at this place in inches."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((left / wide, bottom / high, width / wide, height / high))
    axes.tick_params(labelsize=9, colors=INK, length=3, color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(PALE)
    axes.set_axisbelow(True)
    return axes


def text_at(axes: Axes, x: float, y: float, text: str, size: float = 7, **look: Any) -> None:
    """Puts `text` at (x, y) in the units of the axes, as it is: no mathematics in it."""
    look = {"va": "center", "color": INK} | look
    axes.text(x, y, text, fontsize=size, parse_math=False, **look)


def blend(amount: Array, low: str, high: str) -> Array:
    """Colours (..., 3) between `low` at 0 and `high` at 1."""
    start, end = np.array(to_rgb(low)), np.array(to_rgb(high))
    colours: Array = start + amount[..., None] * (end - start)
    return colours


def percent(share: float) -> str:
    """'97.3 %'; never '100.0 %' of what is less than certain."""
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"
