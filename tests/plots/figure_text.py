"""The text of a figure, as a reader sees it."""

from io import BytesIO

from matplotlib.figure import Figure


def texts(figure: Figure) -> list[str]:
    """Every visible text, after rendering the figure."""
    figure.savefig(BytesIO(), format="png")
    return [
        artist.get_text().replace("\N{NO-BREAK SPACE}", " ")
        for artist in figure.findobj(lambda a: hasattr(a, "get_text") and a.get_visible())
        if artist.get_text()
    ]


def full_text(figure: Figure) -> str:
    """The visible texts, one per line."""
    return "\n".join(texts(figure))
