"""A page as a browser sees it: headless Chromium with the page, a probe script and axe-core in it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(
    os.environ.get("DEEPAD_AXE", Path(__file__).parents[2] / ".venv" / "node_modules" / "axe-core" / "axe.min.js")
)
PROBE = """
window.seen = {errors: [], requests: []};
window.addEventListener("error", event => seen.errors.push(String(event.message || event.target.outerHTML)), true);
"""
ASK = """
(async () => {
  const acted = await (async () => {ACT})();
  seen.requests = performance.getEntriesByType("resource").map(entry => entry.name);
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const boxes = [...document.querySelectorAll("figure svg")].map(svg => svg.getBoundingClientRect());
  const texts = [...document.querySelectorAll("figure svg text")].map(text => text.getBoundingClientRect());
  const cut = [...document.querySelectorAll("figure svg")].flatMap(svg => {
    const own = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(text => {
      const box = text.getBoundingClientRect();
      return box.width && (box.left < own.left - 1 || box.right > own.right + 1 || box.top < own.top - 1
        || box.bottom > own.bottom + 1);
    }).map(text => text.textContent);
  });
  const found = {...seen, acted, wide, cut, figures: boxes.length, texts: texts.length,
    empty: boxes.filter(box => box.width < 50 || box.height < 30).length,
    smallest: Math.min(...texts.filter(box => box.height).map(box => box.height)),
    labels: [...document.querySelectorAll("figure svg")].map(svg => svg.getAttribute("aria-label"))};
  if (window.axe) {
    const result = await axe.run(document, {resultTypes: ["violations"]});
    found.violations = result.violations.map(v => v.id + ": " + v.nodes.map(n => n.target.join(" ")).join(", "));
  }
  found.inner = innerWidth;
  parent.postMessage(JSON.stringify(found), "*");
})();
"""


FRAME = """<!doctype html><body style="margin:0"><script>
addEventListener("message", event => {{
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = event.data;
  document.body.append(answer);
}});
</script><iframe src="{page}" style="width:{width}px;height:1200px;border:0"></iframe></body>
"""


def look(page: Path, folder: Path, *, width: int = 1000, dark: bool = False, axe: bool = True, act: str = "") -> dict:
    """What the browser makes of a page: script errors, requests, figures, texts that are cut, and axe's findings.

    `act` is run before, and what it returns is `acted`.

    Skips where there is no browser, or no axe-core though it is asked for.
    """
    if BROWSER is None:
        pytest.skip("no Chromium on this machine: pages are looked at where there is one")
    if axe and not AXE.exists():
        pytest.skip("no axe-core on this machine: npm install --prefix .venv axe-core")
    text = page.read_text()
    script = f"<script>{PROBE}</script>"
    asked = f"<script>{AXE.read_text() if axe else ''}</script><script>{ASK.replace('ACT', act)}</script>"
    probed = folder / f"probed-{width}-{dark}.html"
    body, end = text.rsplit("</body>", 1)
    probed.write_text(body.replace("<head>", f"<head>{script}", 1) + asked + "</body>" + end)
    frame = folder / f"frame-{width}-{dark}.html"  # a window is never narrower than 500 pixels
    frame.write_text(FRAME.format(width=width, page=probed.name))
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={max(width, 500)},1200", "--virtual-time-budget=20000",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
        *(["--blink-settings=preferredColorScheme=0", "--force-dark-mode"] if dark else []),
        "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    answer = re.search(r'<pre id="answer">(.*?)</pre>', result.stdout, re.DOTALL)
    assert answer, result.stderr[-2000:]
    found = json.loads(answer[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["inner"] == width
    found["console"] = [
        line for line in result.stderr.splitlines() if "CONSOLE" in line and "setting log level" not in line
    ]
    return found


def require_clean(found: dict) -> None:
    """No error, no request, nothing cut or empty, each figure described, and nothing axe objects to."""
    assert found["errors"] == []
    assert found["requests"] == []
    assert found["console"] == []
    assert found["wide"] <= 0, "the page scrolls sideways"
    assert found["empty"] == 0
    assert found["cut"] == []
    assert all(label and len(label) > 15 for label in found["labels"])
    assert found.get("violations", []) == []
