"""One self-contained page a run: what was trained, what is promised, what was kept, and the figures.

No script, no network, opens from disk; light and dark follow the reader's setting.
"""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} - deepad</title>
<style>
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #ffffff; --soft: #5a5a5a; --line: #d8d8d8; --good: #1d6b3a; --bad: #a3301c }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --paper: #16181a; --soft: #b0b0b0; --line: #3a3d40; --good: #7ecb98; --bad: #f0907c } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem } .soft { color: var(--soft) }
.good { color: var(--good); font-weight: 600 } .bad { color: var(--bad); font-weight: 600 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
figure { margin: 1.5rem 0 } figure img { max-width: 100%; height: auto; background: #ffffff; border-radius: 4px } figcaption { color: var(--soft); font-size: .9rem }
@media print { body { margin: 0 } figure { break-inside: avoid } }
</style></head><body>
<main>
<h1>{{ title }}</h1>
<p class="soft">{{ subtitle }}</p>
<p><strong>Promise.</strong> {{ promise }}. It rests on: {{ assumptions | join("; ") }}.</p>
{% if kept %}<p><strong>Kept?</strong> {{ kept.text }} <span class="{{ 'good' if kept.inside else 'bad' }}">
{{ "Inside" if kept.inside else "Outside" }} the 99 % range of the exact law.</span></p>{% endif %}
<h2>Beside the floor</h2>
<table><thead><tr><th>model</th><th class="number">AUROC</th><th class="number">AP</th><th class="number">false alarms</th>
<th class="number">recall</th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row.name }}</td>{% for cell in row.cells %}<td class="number">{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table>
<p class="soft">AUROC and AP need no threshold; false alarms and recall are at the calibrated one.</p>
{% for figure in figures %}<figure><img src="data:image/png;base64,{{ figure.data }}" alt="{{ figure.alt }}">
<figcaption>{{ figure.caption }}</figcaption></figure>{% endfor %}
<h2>Provenance</h2>
<table><tbody>{% for name, value in provenance %}<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</tbody></table>
</main></body></html>
"""


def render(page: dict[str, Any], figures: Sequence[tuple[Figure, str, str]]) -> str:
    """The page as one HTML text.

    Args:
        page: `title`, `subtitle`, `promise`, `assumptions`, `kept` (None or `text` and `inside`), `rows` (`name`,
            `cells`) and `provenance` (pairs).
        figures: figure, alternative text and caption of each.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    drawn = [{"data": _png(figure), "alt": alt, "caption": caption} for figure, alt, caption in figures]
    return environment.from_string(_PAGE).render(**page, figures=drawn)


def _png(figure: Figure) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return b64encode(buffer.getvalue()).decode()
