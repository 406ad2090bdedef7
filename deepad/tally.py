"""What is counted while files are judged part by part, and whether their scores still look like the calibration's."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from deepad.errors import InputError
from deepad.scoring.conformal import Calibration
from deepad.scoring.drift import DriftMonitor
from deepad.scoring.envelope import round_up
from deepad.scoring.scorer import Scorer
from deepad.scoring.verdict import Verdict


class Tally:
    """What is counted while files are judged part by part."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.n = self.flagged = self.invalid = self.unscored = self.unknown = self.alerts = 0
        self.tiers: Counter[str] = Counter()
        self.groups: Counter[str] = Counter()
        self.blocks = 0

    def add(self, verdict: Verdict, stretches: list[Verdict]) -> None:
        """Count the verdict on a part, and on each unbroken stretch of it."""
        self.n += len(verdict)
        self.flagged += int(verdict.flagged.sum())
        self.invalid += int(verdict.invalid.sum())
        self.unknown += int(verdict.unknown.sum())
        self.unscored += verdict.n_unscored
        self.tiers.update(verdict.tier_names)
        if verdict.group is not None:
            self.groups.update(verdict.group[~verdict.invalid].tolist())
        blocks = None if self.scorer.events is None else self.scorer.events.blocks
        for part in stretches:
            if blocks is not None and part.n_unscored < len(part):
                begin = 0 if part.unscored is None else int(np.argmin(part.unscored))  # as when it was calibrated
                self.alerts += int(blocks.notify(part.flagged, begin).sum())
                self.blocks += -(-(len(part) - part.n_unscored) // blocks.length)  # a part of one counts as a whole
        self.last = verdict

    def law(self) -> tuple[int, int] | None:
        """95 % range of the flags if all that was judged is normal."""
        guarantee, judged = self.last.guarantee, self.n - self.invalid - self.unscored
        if guarantee.kind == "block" or judged < 1:
            return None
        return guarantee.future_alarms(self.groups if self.groups else judged)

    def report(self) -> dict[str, Any]:
        """What was counted, as plain values."""
        law = self.law()
        found: dict[str, Any] = {
            "n": self.n,
            "flagged": self.flagged,
            "invalid": self.invalid,
            "unscored": self.unscored,
            "if_all_normal_95": None if law is None else list(law),
        }
        if self.last.tiers:
            found["tiers"] = {name: self.tiers[name] for name in self.last.tiers}
        if self.last.group is not None:
            found["unknown_group"] = self.unknown
        if self.blocks:
            expected = self.last.guarantee.attained * self.blocks
            found |= {"alerts": self.alerts, "blocks": self.blocks, "expected_if_normal": expected}
        return found

    def __str__(self) -> str:
        what = "samples"
        if self.scorer.steps is not None:
            what = f"steps ({self.unscored} of them not scored: no window ends there)"
        report = self.report()
        text = f"{self.n} {what}, {self.flagged} flagged ({self.invalid - self.unknown} without a score)"
        if "tiers" in report:
            text += f", {', '.join(f'{count} {name}' for name, count in report['tiers'].items())}"
        if self.unknown:
            text += f"; {self.unknown} are of groups that were not calibrated, and flagged for that"
        if law := report["if_all_normal_95"]:
            text += f"; if all were normal, {law[0]} to {law[1]} would be flagged with 95 % probability"
        if self.blocks:
            most = round_up(report["expected_if_normal"])
            text += f"; {self.alerts} alerts in {self.blocks} times a {self.last.guarantee.unit}, "
            text += f"at most {most:g} expected if all is normal"
        return text


class Staleness:
    """Whether new scores, or the maxima of new blocks, still look like those of the calibration."""

    def __init__(self, scorer: Scorer) -> None:
        self.blocks = None if scorer.events is None else scorer.events.blocks
        calibration = scorer.calibration
        if not isinstance(calibration, Calibration) or calibration.slots > 1 or scorer.decision.kind == "none":
            raise InputError(
                "--monitor compares independent samples, or blocks of one slot, with a calibration without groups: "
                "leave it out, or calibrate such a scorer beside this one"
            )
        self.monitor = DriftMonitor(calibration.scores, exchangeable=True)  # they are sorted, and independent

    def add(self, stretches: list[Verdict]) -> None:
        """Watch the verdicts on the unbroken stretches of a part."""
        scores = [part.score for part in stretches]
        self.monitor.update(np.concatenate(scores) if self.blocks is None else self.blocks.slot_maxima(scores)[:, 0])

    def report(self) -> dict[str, Any]:
        """What the monitor says, as plain values."""
        return {"monitor": {"what": "samples" if self.blocks is None else "blocks", **asdict(self.monitor.state)}}

    def __str__(self) -> str:
        return f"\n{self.monitor.state}"
