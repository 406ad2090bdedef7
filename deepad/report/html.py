"""Self-contained pages: no script, no network, opens from disk; light and dark follow the reader's setting.

Each page is a template beside this file, with `base.html` around it and the style of `style.css` in it.
"""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure


def render(template: str, page: dict[str, Any], figures: Sequence[tuple[Figure, str, str]]) -> str:
    """A page as one HTML text.

    Args:
        template: its file.
        page: what the template names.
        figures: figure, alternative text and caption of each.
    """
    environment = Environment(
        loader=PackageLoader("deepad.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    drawn = [{"data": _png(figure), "alt": alt, "caption": caption} for figure, alt, caption in figures]
    return environment.get_template(template).render(**page, figures=drawn)


def _png(figure: Figure) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return b64encode(buffer.getvalue()).decode()
