"""Does a test fail for every way in which calibration goes wrong elsewhere? Breaks copies of the package.

    python scripts/mutants.py            # make mutants
    python scripts/mutants.py --only M1 M4

Each mutant is a fault found in a published implementation or tutorial. Prints a Markdown table; a mutant that no test
notices makes the exit status 1.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RANK = "return _largest(lambda k: k / (n + 1) <= alpha, n + 1)"
WINDOW = "            window.append({0})\n            insort(ordered, {0})\n        values[finite[:full]]"
KEPT = "            kept = min(score, 3 * ordered[middle] - 2 * ordered[low])\n"
# fault, module of deepad.scoring, text that is replaced, what by, test files
MUTANTS = {
    "M1": ("> for >= in the count", "conformal", 'lowered, side="left")', 'lowered, side="right")', "conformal"),
    "M2": ("no + 1 in p", "conformal", "(ranks - 1 + self.slots) / (self.n // self.slots + 1)",
           "(ranks - 1) / (self.n // self.slots)", "conformal"),
    "M3+": ("rank k + 1", "ranks", RANK, RANK.replace("return ", "return 1 + "), "guarantee conformal"),
    "M3-": ("rank k - 1", "ranks", RANK, RANK.replace("return ", "return -1 + "), "guarantee conformal"),
    "M3e": ("rank k + 1 in the envelope", "envelope", "i = n + 1 - np", "i = n + 2 - np", "envelope"),
    "M4": ("flag where s >= threshold", "conformal", "(lowered > self.value)", "(lowered >= self.value)", "conformal"),
    "M5": ("rows of the training calibrate", "heldout", "    if shared.any():", "    if False:", "heldout scorer"),
    "M6": ("floor(alpha * (n + 1)) in floats", "ranks", RANK, "return int(alpha * (n + 1))", "guarantee"),
    "M7": ("smoothed p with 1 + U * ties", "drift", "uniforms * (1 + ties)", "(uniforms * ties + 1)", "drift"),
    "M8": ("martingale on a fixed calibration", "drift", "np.add.at(self._counts, buckets, 1)", "pass", "drift"),
    "M9": ("what is flagged stays out of the window", "standardize", WINDOW.format("score"),
           KEPT + WINDOW.format("kept"), "standardize"),
    "M10": ("groups pooled", "groups", "return cls(parts, tuple(small))",
            "return cls(dict.fromkeys(parts, Calibration.fit(values, **rest)), tuple(small))", "groups"),
    "M11": ("NaN is normal", "conformal", " | np.isnan(lowered)", "", "conformal"),
    "M12": ("select where p <= q", "discovery", "largest = int(tested[within[-1]]) if len(within) else 0",
            "largest = int(q * (n + 1))", "discovery"),
    "M13": ("scores cast to float32", "conformal", "array.astype(np.float64)",
            "array.astype(np.float32).astype(np.float64)", "conformal"),
    "M14": ("points calibrated though alarms must persist", "eventrule", "[] if self.persistence is None else",
            "[] if True else", "scorer_of_events"),
    "M15": ("slot budget without + M", "ranks", "(k - 1 + slots) / (blocks + 1) <= budget",
            "k / (blocks + 1) <= budget", "guarantee events"),
    "M16": ("range of alarms of another rank", "counts", "hypergeom.sf(k - 1,", "hypergeom.sf(k,", "counts guarantee"),
}  # fmt: skip


def mutated(name: str) -> str:
    """The text of the module with the fault in it."""
    _, module, old, new, _ = MUTANTS[name]
    text = (ROOT / "deepad" / "scoring" / f"{module}.py").read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{module}.py holds the text of mutant {name} {text.count(old)} times: {old!r}")
    return text.replace(old, new)


def killer(name: str) -> str | None:
    """The first test that fails for the mutant; None if it survives."""
    _, module, _, _, files = MUTANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        for part in ("deepad", "tests"):
            shutil.copytree(ROOT / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        Path(folder, "deepad", "scoring", f"{module}.py").write_text(mutated(name))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        command += [f"tests/scoring/test_{file}.py" for file in files.split()]
        environment = {**os.environ, "PYTHONPATH": folder}
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    found = re.search(r"^FAILED tests/scoring/(\S+)", ran.stdout, re.MULTILINE)
    if ran.returncode not in (0, 1) or (ran.returncode == 1 and found is None):
        raise SystemExit(f"the tests could not run for mutant {name}: {ran.stdout[-500:]}{ran.stderr[-500:]}")
    return None if found is None else found[1]


def main() -> None:
    """Apply the mutants one after the other and print who noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MUTANTS, default=list(MUTANTS), help="these alone")
    survivors = []
    print("| mutant | fault | in | noticed by |\n|---|---|---|---|")
    for name in parser.parse_args().only:
        fault, module, *_ = MUTANTS[name]
        found = killer(name)
        survivors += [] if found else [name]
        print(f"| {name} | {fault} | `{module}` | {f'`{found}`' if found else '**nobody**'} |", flush=True)
    sys.exit(f"survived: {', '.join(survivors)}" if survivors else 0)


if __name__ == "__main__":
    main()
