"""Every fault that docs/reliability.md lists is held by tests that exist."""

import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "reliability.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


@cache
def names_in(file):
    return set(re.findall(r"^def (test_\w+)", (HERE / file).read_text(), re.MULTILINE))


def test_every_fault_is_listed_once():
    assert [int(number) for number, *_ in ROWS] == list(range(1, 57))


def test_every_test_that_holds_a_fault_exists():
    for number, _, _, held_by in ROWS:
        proofs = re.findall(r"`([\w/]+\.py)::(test_\w+)`", held_by)
        assert proofs, f"nothing holds fault {number}"
        for file, name in proofs:
            assert name in names_in(file), f"fault {number}: {file} has no {name}"
