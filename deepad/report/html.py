"""One self-contained page a run: what was trained, what is promised, what was kept, and the figures.

No script, no network, opens from disk; light and dark follow the reader's setting. The template is `page.html`.
"""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure


def render(page: dict[str, Any], figures: Sequence[tuple[Figure, str, str]]) -> str:
    """The page as one HTML text.

    Args:
        page: `title`, `subtitle`, `promise`, `assumptions`, `kept` (None or `text` and `inside`), `better` (a note
            or nothing), `rows` (`name`, `cells`) and `provenance` (pairs).
        figures: figure, alternative text and caption of each.
    """
    environment = Environment(
        loader=PackageLoader("deepad.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    drawn = [{"data": _png(figure), "alt": alt, "caption": caption} for figure, alt, caption in figures]
    return environment.get_template("page.html").render(**page, figures=drawn)


def _png(figure: Figure) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return b64encode(buffer.getvalue()).decode()
