"""Runs the tests that hold each fault of docs/reliability.md, and counts: `make faults`.

python scripts/faults.py
"""

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class Count:
    """Outcomes of tests, as pytest reports them."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test when it was called, or when it was skipped or failed before."""
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1


def main() -> int:
    """Run them and print one line."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| \d+ \| .+? \| .+? \| (.+?) \|$", page, re.MULTILINE)
    proofs = sorted({proof for row in rows for proof in re.findall(r"`([\w/]+\.py::test_\w+)`", row)})
    if not proofs:
        raise SystemExit("docs/reliability.md lists no faults")
    count = Count()
    status = pytest.main(["-q", "-n", "0", *(str(ROOT / "tests" / proof) for proof in proofs)], plugins=[count])
    found = ", ".join(f"{n} {outcome}" for outcome, n in sorted(count.outcomes.items()))
    print(f"{len(rows)} faults, {len(proofs)} tests that hold them, cases: {found}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
