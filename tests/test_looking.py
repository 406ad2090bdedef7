"""The verbs that end in something to look at: explain, report, and pages on judged files."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepad
from deepad.baselines import KNearestNeighbors
from deepad.cli import main
from deepad.data.synthetic import generate

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
