"""Self-contained pages: no script, no network, opens from disk; light and dark follow the reader's setting.

Each page is a template beside this file, with `base.html` around it and the style of `style.css` in it. Figures are
SVG within the page, so their text is text and follows the colours of the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from deepad.report.figures import as_svg


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure of a page.

    Attributes:
        figure: what is drawn.
        shows: what it shows, in a sentence: read to those who do not see it.
        caption: what stands below it.
    """

    figure: Figure
    shows: str
    caption: str


@dataclass(frozen=True, eq=False)
class Section:
    """Pictures that belong together, below a title."""

    title: str
    pictures: Sequence[Picture]


def render(template: str, page: dict[str, Any], sections: Sequence[Section]) -> str:
    """A page as one HTML text.

    Args:
        template: its file.
        page: what the template names.
        sections: those without pictures are left out.
    """
    environment = Environment(
        loader=PackageLoader("deepad.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    drawn = [
        {
            "title": section.title,
            "pictures": [
                {"svg": as_svg(picture.figure, label=picture.shows), "caption": picture.caption}
                for picture in section.pictures
            ],
        }
        for section in sections
        if section.pictures
    ]
    return environment.get_template(template).render(**page, sections=drawn)
