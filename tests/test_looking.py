"""The verbs that end in something to look at: explain, report, and pages on judged files."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import deepad
from deepad.baselines import KNearestNeighbors, PCAResidual
from deepad.channels import SeriesSchema
from deepad.cli import main
from deepad.data.synthetic import generate
from deepad.report.sections import Judged, of_promise
from deepad.scoring.conformal import Calibration
from deepad.scoring.decision import Decision
from deepad.scoring.eventrule import EventRule
from deepad.scoring.judging import judge

FIT = ["fit", "--model=DenseAutoencoder", "--model.hidden_dims=[16]", "--model.latent_dim=4", "--trainer.max_epochs=2"]
KINDS = {
    "table": ["--data=Table", "--data.generator=transactions", "--data.generator_args={rows: 1500}"],
    "series": ["--data=Series", "--data.generator=sensors", "--data.generator_args={rows: 1200}",
               "--data.window_size=8", "--calibration.alpha=0.1"],
    "images": ["--data=Digits"],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run folder of each kind of data."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, data in KINDS.items():
        assert main([*FIT, *data, f"--run={folder / kind}"]) == 0
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory, digits):
    """A file of new data of each kind, and labels for it."""
    folder = tmp_path_factory.mktemp("files")
    pa.csv.write_csv(generate("transactions", rows=300, rate=0.1, seed=3), folder / "table.csv")
    pa.csv.write_csv(generate("sensors", rows=500, rate=0.1, seed=3), folder / "series.csv")
    test = digits.splits.test
    np.savez(folder / "images.npz", x=test.x[test.index].numpy(), y=digits.test_labels())
    return {"table": folder / "table.csv", "series": folder / "series.csv", "images": folder / "images.npz"}


def told(capsys, *arguments):
    """What a verb prints as JSON."""
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def named(kind, *columns):
    return [] if kind == "images" else ["--ignore", *(columns or ("label", "pattern"))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_highest_scores_are_explained_from_the_highest_down(runs, files, kind, capsys):
    found = told(capsys, "explain", "--scorer", runs / kind / "scorer", files[kind], *named(kind), "--top", "5")
    scores = [row["score"] for row in found["rows"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    if kind == "table":
        table = pa.csv.read_csv(files[kind]).drop_columns(["label", "pattern"])
        verdict = deepad.Scorer.load(runs / kind / "scorer")(table)
        assert [row["row"] for row in found["rows"]] == np.argsort(-verdict.score)[:5].tolist()
        assert scores == np.sort(verdict.score)[::-1][:5].tolist()
    if kind == "series":
        rows = sorted(row["row"] for row in found["rows"])
        assert min(np.diff(rows)) >= 8, "steps around a higher one tell the same"
    for row in found["rows"]:
        assert row["sentence"]
        assert sum(part["contribution"] for part in row["parts"]) == pytest.approx(row["score"], rel=1e-5)
        assert len(row["nearest"]) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_explained_in_the_order_they_are_asked_for(runs, files, kind, tmp_path, capsys):
    page = tmp_path / "deep" / "page.html"
    call = ["explain", "--scorer", runs / kind / "scorer", files[kind], *named(kind), "--rows", "203,20-21"]
    found = told(capsys, *call, "--report", page)
    assert [row["row"] for row in found["rows"]] == [203, 20, 21]
    assert [row["index"] for row in found["rows"]] == [203, 20, 21]
    text = page.read_text()
    assert all(f"row {row}" in text for row in (203, 20, 21))
    assert "<script" not in text
    assert ("<svg" in text) == (kind != "table")
    assert main([*map(str, call)]) == 0
    out = capsys.readouterr().out
    assert out.count("p = ") >= 3
    assert found["rows"][0]["sentence"] in out


def test_rows_are_counted_over_all_files(runs, files, tmp_path, capsys):
    shutil.copy(files["table"], tmp_path / "again.csv")
    inputs = [files["table"], tmp_path / "again.csv", *named("table")]
    first, second = told(capsys, "explain", "--scorer", runs / "table" / "scorer", *inputs, "--rows", "7,307")["rows"]
    assert (second["source"], second["index"]) == (str(tmp_path / "again.csv"), 7)
    assert first["score"] == second["score"]
    top = told(capsys, "explain", "--scorer", runs / "table" / "scorer", *inputs, "--top", "4")["rows"]
    assert [row["score"] for row in top[::2]] == [row["score"] for row in top[1::2]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_run_is_made_again_from_its_files(runs, kind, tmp_path, capsys):
    made = (runs / kind / "report.html").read_text()
    assert told(capsys, "report", runs / kind, "--output", tmp_path / "again.html")["report"]
    assert (tmp_path / "again.html").read_text() == made
    shutil.copytree(runs / kind, tmp_path / "moved")
    (tmp_path / "moved" / "report.html").unlink()
    assert main(["report", str(tmp_path / "moved")]) == 0
    assert (tmp_path / "moved" / "report.html").read_text() == made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_judged_files_have_a_page(runs, files, kind, verb, tmp_path, capsys):
    labels = {"table": "label", "series": "label", "images": "y"}[kind]
    more = ["--output", tmp_path / "rows.csv", *named(kind)] if verb == "score" else [
        "--labels", labels, *named(kind, "pattern")
    ]  # fmt: skip
    page = tmp_path / "page.html"
    assert main([*map(str, [verb, "--scorer", runs / kind / "scorer", files[kind], *more, "--report", page])]) == 0
    text = page.read_text()
    assert "Highest scores" in text
    assert ("ROC curve" in text) == (verb == "evaluate")
    assert ("Kept?" in text) == (verb == "evaluate")
    assert ("Map of what each channel adds" in text) == (kind == "series")
    assert len(text) < 3e6


def test_bad_requests_are_refused_in_one_line_and_leave_no_page(runs, files, tmp_path, capsys):
    page = tmp_path / "page.html"
    call = ["explain", "--scorer", runs / "table" / "scorer", files["table"], *named("table"), "--report", page]
    for more, told in (
        (["--rows", "3,x"], "--rows is written as 3,17 or 20-25"),
        (["--rows", "9-3"], "--rows is written as"),
        (["--rows", "0-9999999999"], "at most 1000 are explained at a time"),
        (["--rows", "300"], "no row 300: the input has 300, from 0 to 299"),
        (["--top", "0"], "give how many to explain, at least 1"),
    ):
        assert main([*map(str, [*call, *more])]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert told in err
    assert not page.exists()
    with pytest.raises(SystemExit, match="2"):
        main([*map(str, [*call, "--top", "3", "--rows", "1"])])
    (tmp_path / "blocked").write_text("")
    call[-1] = tmp_path / "blocked" / "page.html"
    assert main([*map(str, call)]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_a_folder_that_is_no_finished_run_has_no_page(runs, tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no finished run" in capsys.readouterr().err
    shutil.copytree(runs / "table", tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text("{")
    assert main(["report", str(tmp_path / "run")]) == 1
    shutil.copy(runs / "table" / "metrics.json", tmp_path / "run" / "metrics.json")
    (next((tmp_path / "run" / "exhibits").glob("*.safetensors"))).write_bytes(b"x")
    before = (tmp_path / "run" / "report.html").read_text()
    assert main(["report", str(tmp_path / "run")]) == 1
    assert "altered or cut short" in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "run" / "report.html").read_text() == before


def test_a_verdict_read_back_from_a_run_is_the_one_that_was_written(runs):
    for kind in KINDS:
        table = pa.parquet.read_table(runs / kind / "scores.parquet")
        verdict = deepad.Scorer.load(runs / kind / "scorer").judge(table["score"].to_numpy())
        assert verdict.flagged[~np.isnan(verdict.score)].tolist() == table["flagged"].drop_null().to_pylist()
        assert np.array_equal(verdict.p_value, table["p_value"].to_numpy(), equal_nan=True)


def test_a_floor_that_fails_is_told_and_the_training_is_kept(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("too\nmuch")

    monkeypatch.setattr(KNearestNeighbors, "_fit", fail)
    assert main([*FIT, "--data=Digits", f"--run={tmp_path / 'run'}"]) == 0
    assert "failed: too much (k-NN)" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["floors"]["k-NN"] == {"error": "too much"}
    assert "ranking" in metrics["floors"]["PCA"]
    assert "k-NN failed" in (tmp_path / "run" / "report.html").read_text()
    deepad.Scorer.load(tmp_path / "run" / "scorer")


def test_a_score_that_events_changed_is_told_beside_the_one_before(tmp_path, capsys):
    rng = np.random.default_rng(0)
    model = PCAResidual(1).fit(np.lib.stride_tricks.sliding_window_view(rng.normal(size=(500, 2)), 4, 0).swapaxes(1, 2))
    events = EventRule(persistence=(2, 3), standardize=50)
    deepad.Scorer.calibrate(model, rng.normal(size=(400, 2)), steps="last", events=events, alpha=0.1).save(
        tmp_path / "s"
    )
    np.save(tmp_path / "x.npy", rng.normal(size=(300, 2)))
    call = ["explain", "--scorer", tmp_path / "s", tmp_path / "x.npy", "--top", "3", "--report", tmp_path / "page.html"]
    verdict = deepad.Scorer.load(tmp_path / "s")(np.load(tmp_path / "x.npy"))
    for row in told(capsys, *call)["rows"]:
        assert row["score"] == verdict.score[row["row"]] != row["score_before_events"]
        assert sum(part["contribution"] for part in row["parts"]) == pytest.approx(row["score_before_events"])
        assert (
            f"score {row['score']:.5g} ({row['score_before_events']:.5g} before events)"
            in (tmp_path / "page.html").read_text()
        )


def test_peaks_are_apart_in_time_whatever_the_order_of_rows(runs, tmp_path, capsys):
    table = generate("sensors", rows=400, rate=0.1, seed=4)
    order = np.random.default_rng(0).permutation(400)
    pa.csv.write_csv(table.take(order), tmp_path / "shuffled.csv")
    call = [
        "explain",
        "--scorer",
        runs / "series" / "scorer",
        tmp_path / "shuffled.csv",
        *named("series"),
        "--top",
        "5",
    ]
    steps = sorted(int(order[row["row"]]) for row in told(capsys, *call)["rows"])
    assert min(np.diff(steps)) >= 8


def test_odd_names_of_files_and_channels_are_written_all_the_same(tmp_path, capsys):
    rng = np.random.default_rng(0)
    names = ("price $x_{$", "<b>温度</b>")
    windows = np.lib.stride_tricks.sliding_window_view(rng.normal(size=(300, 2)), 4, axis=0).swapaxes(1, 2)
    model, schema = PCAResidual(1).fit(windows), SeriesSchema(names)
    scorer = deepad.Scorer.calibrate(model, rng.normal(size=(200, 2)), steps="last", inputs=schema)
    scorer.save(tmp_path / "scorer")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.npy")
    np.save(odd, rng.normal(size=(60, 2)))
    call = ["--scorer", tmp_path / "scorer", odd, "--report", tmp_path / "page.html"]
    assert main([*map(str, ["explain", *call, "--top", "2"])]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;温度&lt;/b&gt;" in text
    assert "<b>" not in text
    assert "price $x_{$" in text
    assert main([*map(str, ["score", *call, "--output", tmp_path / "rows.csv"])]) == 0
    capsys.readouterr()


def without_test(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test": {}}))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metrics.json", lambda path: path.write_text("{}")),
        ("metrics.json", without_test),
        ("scores.parquet", lambda path: pa.parquet.write_table(pa.parquet.read_table(path).slice(0, 9), path)),
        ("training/metrics.csv", lambda path: path.write_text("epoch,val_loss\nx,y\n")),
    ],
    ids=["empty", "no test", "fewer rows", "no losses"],
)
@pytest.mark.parametrize("more", [[], ["--explore"]])
def test_files_of_a_run_that_do_not_belong_together_are_refused_in_one_line(runs, name, change, more, tmp_path, capsys):
    shutil.copytree(runs / "images", tmp_path / "run")
    change(tmp_path / "run" / name)
    if (more and name == "training/metrics.csv") or (more and change is without_test):
        assert main(["report", str(tmp_path / "run"), *more]) == 0, "that page needs neither"
        return
    assert main(["report", str(tmp_path / "run"), *more]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "deepad: error" in err


def test_what_a_level_brings_is_told_of_the_level_that_decides(runs):
    scores = np.random.default_rng(0).normal(size=300)
    calibration = Calibration.fit(scores)
    new, y = np.random.default_rng(1).normal(size=500), (np.arange(500) % 5 == 0).astype(int)
    verdict = judge(calibration, (calibration.threshold(0.05, kind="pac", delta=0.05),), new)
    judged = Judged(verdict, y, calibration.scores, False)
    assert judged.level == verdict.guarantee.k / 301 < 0.05
    dial = of_promise(judged).pictures[-1].figure
    missed = 1 - verdict.flagged[y == 1].mean()
    assert f"{missed:.4g} at alpha" in " ".join(axes.get_title(loc="left") for axes in dial.axes)
    rule = Decision.make(0.05, None, None, None, "sigma:3", usual="marginal").thresholds(calibration)
    assert Judged(judge(calibration, rule, new), y, calibration.scores, False).level is None


def test_a_test_split_too_small_for_a_figure_has_a_page_all_the_same(tmp_path, capsys):
    data = ["--data=Table", "--data.generator=transactions", "--data.generator_args={rows: 600}", "--data.test_size=1"]
    assert main([*FIT, *data, f"--run={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run" / "report.html").exists()


def test_no_sample_need_be_kept(trained, tmp_path, capsys):
    rows = np.random.default_rng(0).uniform(0, 16, (80, 8, 8))
    np.save(tmp_path / "x.npy", rows)
    call = ["calibrate", "--checkpoint", trained[1], tmp_path / "x.npy", "--output", tmp_path / "scorer"]
    assert main([*map(str, [*call, "--reference", "0"])]) == 0
    assert main(["info", str(tmp_path / "scorer")]) == 0
    assert "0 calibration samples kept to explain with" in capsys.readouterr().out
    assert main([*map(str, [*call, "--reference", "-1"])]) == 1
    assert "keeps 0 or more calibration samples" in capsys.readouterr().err
    assert main([*FIT, "--data=Digits", "--calibration.reference=9", f"--run={tmp_path / 'run'}"]) == 0
    assert len(deepad.Scorer.load(tmp_path / "run" / "scorer").reference) == 9
