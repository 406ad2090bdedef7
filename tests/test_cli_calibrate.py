"""`deepad calibrate` and what follows from its options, with good and bad input."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from conftest import train

from deepad import Scorer
from deepad.cli import main
from deepad.data import Series, Table
from deepad.data.synthetic import generate
from deepad.detectors import DenseAutoencoder
from deepad.quiet import quiet_lightning


def trained(data, folder):
    torch.manual_seed(0)
    detector = DenseAutoencoder(data.shape, hidden_dims=(16,), latent_dim=4)
    with quiet_lightning():
        trainer = train(detector, data, folder, max_epochs=2)
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def normal(name, path, rows, seed):
    pyarrow.csv.write_csv(generate(name, rows=rows, rate=0, seed=seed).drop_columns(["label", "pattern"]), path)
    return str(path)


@pytest.fixture(scope="module")
def payments(tmp_path_factory):
    """A checkpoint of payments, files of normal ones to calibrate and to judge."""
    folder = tmp_path_factory.mktemp("payments")
    checkpoint = trained(Table(generator="transactions", generator_args={"rows": 2000}), folder)
    held_out = normal("transactions", folder / "held-out.csv", 3000, 5)
    return checkpoint, held_out, normal("transactions", folder / "new.csv", 500, 6)


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """The same of a series with a row every 5 minutes, 20 days of it to calibrate."""
    folder = tmp_path_factory.mktemp("traffic")
    data = Series(generator="network", generator_args={"rows": 2000}, window_size=12)
    held_out = normal("network", folder / "held-out.csv", 20 * 288 + 40, 5)
    return trained(data, folder), held_out, normal("network", folder / "new.csv", 1200, 6)


def calibrate(files, target, *options):
    return main(["calibrate", "--checkpoint", str(files[0]), files[1], "--output", str(target), *options])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--alpha", "0.01", "--kind", "pac", "--delta", "0.05"], ["with probability 0.95", "in the next 1000"]),
        (["--budget", "2 per week", "--volume", "500 per day"], ["(asked: 0.0005714)", "in the next day (500"]),
        (["--tiers", "warning=5e-2,critical=1e-2"], ["warning: with probability 0.95", "; critical: with"]),
        (["--groups", "hour", "--alpha", "0.1", "--min-group", "50"], ["in each of", "of group"]),
        (["--groups", "card_present"], ["in each of 2 groups"]),
        (["--threshold-rule", "mad:3.5"], ["mad:3.5:", "calibration samples lie above", "at most"]),
    ],
)  # fmt: skip
def test_what_was_bought_is_said_in_two_lines_and_scoring_gives_the_same(payments, tmp_path, capsys, options, words):
    assert calibrate(payments, tmp_path / "scorer", *options) == 0
    promise, outlook, where = capsys.readouterr().out.splitlines()
    assert where == f"scorer in {tmp_path / 'scorer'}"
    assert all(word in f"{promise} {outlook}" for word in words)
    assert main(["info", str(tmp_path / "scorer")]) == 0
    said = capsys.readouterr().out
    assert promise in said
    assert outlook in said
    score = [
        "score",
        "--scorer",
        str(tmp_path / "scorer"),
        payments[2],
        "--output",
        str(tmp_path / "out.csv"),
        "--json",
    ]
    assert main(score) == 0
    report = json.loads(capsys.readouterr().out)
    table = pyarrow.csv.read_csv(tmp_path / "out.csv")
    assert report["flagged"] == sum(table["flagged"].to_pylist())
    assert ("tier" in table.column_names) == ("--tiers" in options)
    assert ("group" in table.column_names) == ("--groups" in options)
    if report["if_all_normal_95"]:  # 500 normal payments: outside in one of a hundred thousand
        assert report["flagged"] <= 3 * max(report["if_all_normal_95"][1], 3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--budget", "2 per week"], "give the volume, say '20000 per day'"),
        (["--budget", "often"], "a budget is written as"),
        (["--budget", "2 per week", "--volume", "many"], "a volume is written as"),
        (["--budget", "9 per day", "--volume", "5 per day"], "an alarm for every sample"),
        (["--tiers", "critical=1e-3,warning=1e-2"], "tiers go from mild to severe"),
        (["--tiers", "critical"], "tiers are written as"),
        (["--tiers", "warning=1e-2,critical=1e-4"], "tier 'critical': alpha=0.0001"),
        (["--groups", "planet"], "there is no column 'planet' to group by"),
        (["--groups", "amount", "--alpha", "0.01"], "calibration scores in each group"),
        (["--threshold-rule", "magic"], "no rule 'magic'"),
        (["--alpha", "1e-6", "--kind", "model"], "cannot be extrapolated"),
        (["--alpha", "1e-4"], "needs at least 9999 calibration scores, got 3000"),
        (["--block", "100"], "are for steps of a series: leave them out"),
        (["--persistence", "3/5"], "are for steps of a series: leave them out"),
        (["--kind", "block"], "cannot be promised"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(payments, tmp_path, capsys, options, reason):
    assert calibrate(payments, tmp_path / "scorer", *options) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "scorer").exists()


def test_two_levels_at_once_are_wrong_usage(payments, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        calibrate(payments, tmp_path / "scorer", "--alpha", "0.01", "--budget", "2 per week")
    assert end.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_budget_of_a_series_is_kept_in_days(traffic, tmp_path, capsys):
    target = tmp_path / "scorer"
    assert calibrate(traffic, target, "--budget", "2 per week", "--persistence", "2/3", "--standardize", "2 hours") == 0
    promise, outlook, _ = capsys.readouterr().out.splitlines()
    assert promise.startswith("a new normal block of 1 day raises a false alarm with probability at most 2")
    assert "of the next 30 normal ones raise a false alarm" in outlook
    output = str(tmp_path / "out.csv")
    assert main(["score", "--scorer", str(target), traffic[2], "--output", output, "--monitor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["blocks"] == 5  # four days and a part of one
    assert report["alerts"] <= 5
    assert (report["if_all_normal_95"], report["monitor"]["what"]) == (None, "blocks")
    assert report["unscored"] == 11 + 24 + 1  # no window, not yet standardised, not yet two of three


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--budget", "2 per month", "--slot", "1 hour"], "normal blocks, got 20"),
        (["--block", "1 parsec"], "a length of time is written as"),
        (["--block", "30 days"], "no stretch holds a whole block"),
        (["--slot", "1 hour", "--alpha", "0.1"], "give the block as well"),
        (["--persistence", "three"], "--persistence is written as 3/5"),
        (["--persistence", "5/3"], "m must be a whole number"),
        (["--standardize", "1"], "window must be"),
        (["--kind", "pac", "--delta", "0.1"], "cannot be promised: steps of a series depend on each other"),
        (["--threshold-rule", "sigma:3"], "needs independent samples"),
        (["--groups", "machine"], "grouped by hour or weekday"),
        (["--groups", "hour", "--block", "1 day"], "give groups or blocks"),
    ],
)
def test_what_cannot_be_of_a_series_is_refused_in_one_line(traffic, tmp_path, capsys, options, reason):
    assert calibrate(traffic, tmp_path / "scorer", *options) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "scorer").exists()


def test_hours_of_a_series_have_thresholds_of_their_own_without_a_promise(traffic, tmp_path, capsys):
    assert calibrate(traffic, tmp_path / "scorer", "--groups", "hour", "--alpha", "0.05") == 0
    assert "in each of 24 groups" in capsys.readouterr().out
    output = tmp_path / "out.csv"
    assert main(["score", "--scorer", str(tmp_path / "scorer"), traffic[2], "--output", str(output)]) == 0
    table = pyarrow.csv.read_csv(output)
    hours = {time.hour for time in table["time"].to_pylist()}
    scored = np.array([value is not None for value in table["p_value"].to_pylist()])
    assert {int(group) for group, told in zip(table["group"].to_pylist(), scored, strict=True) if told} == hours


def test_a_stale_calibration_is_told_apart_from_alarms(payments, tmp_path, capsys):
    assert calibrate(payments, tmp_path / "scorer") == 0
    table = pyarrow.csv.read_csv(payments[2])
    dear = table.set_column(0, "amount", pa.compute.multiply(table["amount"], 20.0))
    pyarrow.csv.write_csv(dear, tmp_path / "dear.csv")
    for path, word in (
        (payments[2], "no sign that the calibration is stale"),
        (tmp_path / "dear.csv", "is stale since"),
    ):
        score = ["score", "--scorer", str(tmp_path / "scorer"), str(path), "--output", str(tmp_path / "o.csv")]
        assert main([*score, "--monitor"]) == 0
        assert word in capsys.readouterr().out
    assert calibrate(payments, tmp_path / "by-hour", "--groups", "hour", "--alpha", "0.1", "--min-group", "50") == 0
    refused = [
        "score",
        "--scorer",
        str(tmp_path / "by-hour"),
        payments[2],
        "--output",
        str(tmp_path / "p.csv"),
        "--monitor",
    ]
    assert main(refused) == 1
    assert "--monitor compares" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def strict(text):
    """JSON as others read it, in which NaN and Infinity are no numbers."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("which", "options"),
    [
        ("payments", []),
        ("payments", ["--tiers", "mild=0.2,bad=0.02", "--kind", "marginal"]),
        ("payments", ["--tiers", "alarm=0.05", "--kind", "pac", "--delta", "0.1"]),
        ("payments", ["--groups", "card_present", "--volume", "1000 per hour"]),
        ("payments", ["--groups", "hour", "--min-group", "200"]),
        ("payments", ["--threshold-rule", "percentile:99", "--delta", "0.1"]),
        ("payments", ["--kind", "none"]),
        ("traffic", ["--alpha", "0.01"]),
        ("traffic", ["--groups", "weekday", "--alpha", "0.1"]),
        ("traffic", ["--tiers", "mild=0.5,bad=0.1", "--block", "1 day"]),
        ("traffic", ["--budget", "1 per day", "--slot", "12 hours", "--rule", "mean"]),
        ("traffic", ["--block", "288", "--slot", "150", "--alpha", "0.5", "--persistence", "3/5"]),
    ],
    ids=str,
)
def test_every_verb_prints_json_for_machines(request, which, options, tmp_path, capsys):
    files, target = request.getfixturevalue(which), tmp_path / "scorer"
    assert calibrate(files, target, *options, "--json") == 0
    made = strict(capsys.readouterr().out)
    assert {"scorer", "promise", "outlook", "decision", "events", "groups", "calibration"} <= made.keys()
    assert main(["info", str(target), "--json"]) == 0
    known = strict(capsys.readouterr().out)
    assert {name: made[name] for name in known} == known
    assert main(["score", "--scorer", str(target), files[2], "--json", "--output", str(tmp_path / "o.jsonl")]) == 0
    report = strict(capsys.readouterr().out)
    rows = [strict(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert (len(rows), sum(row["flagged"] is True for row in rows)) == (report["n"], report["flagged"])
    assert ("tier" in rows[0], "group" in rows[0]) == ("--tiers" in options, "--groups" in options)
    if "--tiers" in options:
        named = [row["tier"] for row in rows if row["flagged"]]
        assert report["tiers"] == {name: named.count(name) for name, _ in made["decision"]["tiers"]}
    np.save(tmp_path / "y.npy", np.arange(len(rows)) % 50 == 0)
    labels = ["--labels", str(tmp_path / "y.npy"), "--json"]
    assert main(["evaluate", "--scorer", str(target), files[2], *labels]) == 0
    assert strict(capsys.readouterr().out)["at_threshold"]["alpha"] == made["decision"]["alpha"] or (
        "--threshold-rule" in options
    )


@pytest.mark.parametrize(
    ("which", "options", "reason"),
    [
        ("payments", ["--volume", "many"], "a volume is written as"),
        ("payments", ["--volume", "5 per 1000"], "here a time is needed"),
        ("payments", ["--volume", "1e300 per s"], "samples a day"),
        ("payments", ["--min-group", "5"], "there are no groups: leave it out"),
        ("payments", ["--groups", "hour", "--min-group", "0"], "min_group must be a whole number"),
        ("payments", ["--groups", "hour", "--min-group", "-3"], "min_group must be a whole number"),
        ("payments", ["--tiers", "a=0.1,a=0.01"], "tier 'a' is given twice"),
        ("payments", ["--tiers", "a=nan"], "strictly between 0 and 1"),
        ("payments", ["--tiers", "=0.1"], "a name of its own"),
        ("payments", ["--tiers", "invalid=0.1"], "a name of its own"),
        ("payments", ["--tiers", "a=0.1", "--kind", "model"], "cannot be extrapolated"),
        ("payments", ["--tiers", "a=0.1", "--kind", "block"], "cannot be promised"),
        ("payments", ["--threshold-rule", "sigma:3", "--groups", "hour"], "leave the groups out"),
        ("payments", ["--threshold-rule", "sigma:-3"], "sigma takes a number"),
        ("payments", ["--threshold-rule", "spc:3"], "in order of time"),
        ("payments", ["--delta", "0"], "strictly between 0 and 1"),
        ("payments", ["--kind", "simultaneous"], "needs delta"),
        ("payments", ["--budget", "inf per day", "--volume", "5 per day"], "a budget is written as"),
        ("payments", ["--standardize", "10"], "leave them out"),
        ("traffic", ["--block", "9" * 400 + " days"], "the length of a block must be"),
        ("traffic", ["--block", "0"], "the length of a block must be"),
        ("traffic", ["--block", "-5"], "a length of time is written as"),
        ("traffic", ["--block", "1 s"], "less than one step of 5 min"),
        ("traffic", ["--block", "1 day", "--slot", "2 days"], "a slot must be"),
        ("traffic", ["--block", "1 day", "--alpha", "2"], "every slot raises at most one alarm"),
        ("traffic", ["--budget", "5 per day"], "every slot raises at most one alarm"),
        ("traffic", ["--budget", "3 per 1000"], "here a time is needed"),
        ("traffic", ["--persistence", "2/3/4"], "is written as 3/5"),
        ("traffic", ["--persistence", "0/3"], "m must be a whole number"),
        ("traffic", ["--block", "1 day", "--threshold-rule", "iqr"], "independent samples"),
        ("traffic", ["--block", "1 day", "--alpha", "0.1", "--kind", "none"], "cannot be promised"),
        ("traffic", ["--groups", "hour", "--min-group", "99999", "--alpha", "1e-5"], "needs at least 99999"),
    ],
    ids=str,
)
def test_what_is_refused_is_refused_before_a_file_is_made(request, which, options, reason, tmp_path, capsys):
    target = tmp_path / "deep" / "scorer"
    for more in ([], ["--json"]):
        assert calibrate(request.getfixturevalue(which), target, *options, *more) == 1
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert reason in said.err
    assert list(tmp_path.iterdir()) == []


def test_alerts_are_counted_in_time_whatever_the_order_of_rows(traffic, tmp_path, capsys):
    target, table = tmp_path / "scorer", pyarrow.csv.read_csv(traffic[2])
    assert calibrate(traffic, target, "--block", "1 day", "--alpha", "0.4", "--persistence", "2/4") == 0
    rows = np.delete(np.arange(len(table)), slice(500, 540))  # a gap, after which blocks begin anew
    pyarrow.csv.write_csv(table.take(rows), tmp_path / "gap.csv")
    pyarrow.csv.write_csv(table.take(np.random.default_rng(0).permutation(rows)), tmp_path / "shuffled.csv")
    capsys.readouterr()
    found = {}
    for name in ("gap", "shuffled"):
        arguments = ["score", "--scorer", str(target), str(tmp_path / f"{name}.csv"), "--monitor", "--json"]
        assert main([*arguments, "--output", str(tmp_path / "out.csv")]) == 0
        found[name] = strict(capsys.readouterr().out)
        assert found[name].pop("notes")
    assert found["gap"] == found["shuffled"]
    scorer = Scorer.load(target)
    line = scorer.inputs.read(table.take(rows))
    verdict, blocks = scorer(line), scorer.events.blocks
    expected = 0
    for segment in line.segments():
        part = verdict[segment]
        expected += int(blocks.notify(part.flagged, int(np.argmin(part.unscored))).sum())
    assert len(line.segments()) == 2
    assert found["gap"]["alerts"] == expected > 0
    assert found["gap"]["monitor"]["seen"] == 1 + 2  # whole days behind what cannot be scored


def test_info_says_what_is_done_before_the_threshold(payments, traffic, tmp_path, capsys):
    options = ["--budget", "1 per day", "--slot", "6 hours", "--persistence", "2/3", "--standardize", "2 hours"]
    assert calibrate(traffic, tmp_path / "events", *options) == 0
    assert calibrate(payments, tmp_path / "groups", "--groups", "hour", "--min-group", "100") == 0
    capsys.readouterr()
    assert main(["info", str(tmp_path / "events")]) == 0
    said = capsys.readouterr().out
    assert (
        "events: scores relative to the 24 before; an alarm needs 2 of the last 3 above the threshold; calibrated in "
        "blocks of 288 steps, at most one alert in each slot of 72\n"
    ) in said
    assert main(["info", str(tmp_path / "groups")]) == 0
    said = capsys.readouterr().out
    assert "groups by hour, of which " in said
    assert "threshold of (other) " in said


def test_an_hour_that_was_not_calibrated_is_flagged_and_told_apart(payments, tmp_path, capsys):
    table = pyarrow.csv.read_csv(payments[1])
    hours = table["hour"].to_numpy()
    pyarrow.csv.write_csv(table.filter(pa.array(hours < 20)), tmp_path / "day.csv")
    day = (payments[0], str(tmp_path / "day.csv"))
    assert calibrate(day, tmp_path / "scorer", "--groups", "hour", "--alpha", "0.3") == 0
    capsys.readouterr()
    score = ["score", "--scorer", str(tmp_path / "scorer"), payments[1], "--output", str(tmp_path / "out.csv")]
    assert main(score) == 0
    late = int((hours >= 20).sum())
    assert f"; {late} are of groups that were not calibrated, and flagged for that" in capsys.readouterr().out
    assert main([*score, "--json"]) == 0
    report = strict(capsys.readouterr().out)
    assert (report["unknown_group"], report["invalid"]) == (late, late)
    rows = pyarrow.csv.read_csv(tmp_path / "out.csv", convert_options=pyarrow.csv.ConvertOptions(column_types={
        "group": pa.string()})).to_pylist()  # fmt: skip
    assert all(row["flagged"] for row in rows if row["group"] == "(unknown)")
    assert sum(row["group"] == "(unknown)" for row in rows) == late
