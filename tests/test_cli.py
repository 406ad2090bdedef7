"""The command line as a user meets it: what it prints, what it writes, how it refuses."""

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

import deepad
from deepad.cli import main
from deepad.data.synthetic import GENERATORS, generate
from deepad.protocol import FLOORS
from deepad.scoring.artifact import sealed


@pytest.fixture(scope="module")
def images(digits, tmp_path_factory):
    """The test images as a file of rows, a folder of PNG files, and their labels."""
    folder = tmp_path_factory.mktemp("images")
    test = digits.splits.test
    x = test.x[test.index].numpy()[:, 0]
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", digits.test_labels())
    np.savez(folder / "xy.npz", x=x, y=digits.test_labels())
    (folder / "png").mkdir()
    for i, image in enumerate(x[:20]):
        Image.fromarray(image).save(folder / "png" / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder written by `deepad fit`."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        arguments = ["--data=Digits", "--model=DenseAutoencoder", "--trainer.max_epochs=4", f"--run={folder}"]
        assert main(["fit", *arguments]) == 0
    return folder


def refused(capsys, *arguments, status=1):
    """The one line on standard error with which a call is refused."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == status
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


# ---- what works ------------------------------------------------------------------------------------------------


def test_version_and_help_need_no_torch():
    code = (
        "import sys; from deepad.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)"
    )
    for flag in ("--version", "--help"):
        result = subprocess.run([sys.executable, "-c", code, flag], capture_output=True, text=True, check=True)
        assert deepad.__version__ in result.stdout or "calibrate" in result.stdout


def test_fit_leaves_a_whole_run_folder(finished):
    assert {path.name for path in finished.iterdir()} == {
        "config.yaml", "training", "checkpoints", "scorer", "metrics.json", "scores.parquet", "exhibits", "report.html",
    }  # fmt: skip
    metrics = json.loads((finished / "metrics.json").read_text())
    scores = pyarrow.parquet.read_table(finished / "scores.parquet")
    assert scores.num_rows == metrics["test"]["n"]
    flagged = np.array(scores["flagged"]) & (np.array(scores["y"]) == 0)
    assert flagged.sum() == metrics["test"]["at_threshold"]["false_alarms"]
    assert metrics["floors"].keys() == FLOORS.keys()
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_the_saved_config_repeats_the_run(finished, tmp_path, capsys):
    assert main(["fit", "--config", str(finished / "config.yaml"), "--run", str(tmp_path / "again"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    first = json.loads((finished / "metrics.json").read_text())
    assert again["id"] == first["id"]
    assert again["test"] == first["test"]


def test_the_report_stands_alone(finished):
    page = (finished / "report.html").read_text()
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["id"] in page
    assert page.count('role="img"') >= 10
    assert 'src="' not in page
    assert "<script" not in page
    assert all('aria-label="' in tag.split(">")[0] for tag in page.split("<svg")[1:])
    assert len(page) < 3e6


def test_print_config_is_a_config(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--data=Digits", "--model=DenseAutoencoder", "--model.latent_dim=3", "--print_config"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    (tmp_path / "config.yaml").write_text(text)
    assert "latent_dim: 3" in text
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(tmp_path / "config.yaml"), "--print_config"])
    assert stop.value.code == 0
    assert "latent_dim: 3" in capsys.readouterr().out


def test_an_optimizer_and_a_schedule_can_be_chosen(tmp_path, capsys):
    arguments = [
        "--optimizer=torch.optim.Adam",
        "--optimizer.lr=0.001",
        "--lr_scheduler=torch.optim.lr_scheduler.StepLR",
    ]
    arguments += ["--lr_scheduler.step_size=2", "--trainer.max_epochs=2", f"--run={tmp_path / 'run'}", "--json"]
    assert main(["fit", "--data=Digits", "--model=DenseAutoencoder", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["epochs"] == 2


def test_a_resumed_training_ends_with_the_same_weights(tmp_path, capsys):
    """Data order, noise, optimizer and schedule go on where the checkpoint left them, bit for bit."""
    fit = ["fit", "--data=Digits", "--model=DenseAutoencoder", "--model.noise=0.1", "--model.dropout=0.1", "--json"]
    assert main([*fit, "--trainer.max_epochs=6", f"--run={tmp_path / 'whole'}"]) == 0
    whole = json.loads(capsys.readouterr().out)
    stop = "--trainer.callbacks+=deepad_stop.StopAfter"
    module = tmp_path / "deepad_stop.py"
    module.write_text(
        "import pytorch_lightning as pl\n"
        "class StopAfter(pl.Callback):\n"
        "    def on_train_epoch_end(self, trainer, module):\n"
        "        if trainer.current_epoch == 2:\n"
        "            raise SystemExit('killed')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(SystemExit):
            main([*fit, "--trainer.max_epochs=6", f"--run={tmp_path / 'cut'}", stop])
    assert not (tmp_path / "cut" / "metrics.json").exists()
    capsys.readouterr()
    resume = [
        "--trainer.max_epochs=6",
        f"--run={tmp_path / 'cut'}",
        f"--ckpt_path={tmp_path / 'cut/checkpoints/last.ckpt'}",
    ]
    assert main([*fit, *resume]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == whole["id"]
    (tmp_path / "cut" / "metrics.json").unlink()  # as if it had been killed while it was judged
    assert main([*fit, *resume]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == whole["id"]


def test_a_replaced_run_leaves_nothing_of_the_old_one_if_it_is_cut_off(tmp_path):
    fit = ["fit", "--data=Digits", "--model=DenseAutoencoder", f"--run={tmp_path / 'run'}", "--trainer.max_epochs=1"]
    assert main(fit) == 0
    assert main([*fit, "--overwrite", "--model.noise=-1"]) == 1
    assert (tmp_path / "run" / "metrics.json").exists(), "a call that is refused touches nothing"
    assert main([*fit, "--overwrite", "--trainer.max_epochs=0"]) == 1
    assert not (tmp_path / "run" / "scorer" / "scorer.json").exists()
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_scores_of_a_file_equal_those_in_python(saved, scorer, images, tmp_path, kind, capsys):
    output = tmp_path / f"scores.{kind}"
    assert main(["score", "--scorer", str(saved), str(images / "x.npy"), "--output", str(output)]) == 0
    verdict = scorer(np.load(images / "x.npy"))
    if kind == "jsonl":
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
    else:
        table = pyarrow.csv.read_csv(output) if kind == "csv" else pyarrow.parquet.read_table(output)
        columns = {name: table[name].to_pylist() for name in table.column_names}
    assert columns["score"] == verdict.score.tolist()
    assert columns["p_value"] == verdict.p_value.tolist()
    assert columns["flagged"] == verdict.flagged.tolist()
    assert columns["index"] == list(range(len(verdict)))
    assert set(columns["model"]) == {scorer.id[:12]}
    assert "would be flagged" in capsys.readouterr().out


def test_a_folder_of_images_scores_as_the_array(saved, scorer, images, capsysbinary):
    assert main(["score", "--scorer", str(saved), str(images / "png"), "--json"]) == 0
    rows = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [row["score"] for row in rows] == scorer(np.load(images / "x.npy")[:20]).score.tolist()
    assert [row["source"][-7:] for row in rows] == [f"{i:03}.png" for i in range(20)]


def test_another_process_gives_the_same_bits_at_any_thread_count(saved, scorer, images, tmp_path):
    whole = scorer(np.load(images / "x.npy"))
    for threads in ("1", "2"):
        output = tmp_path / f"{threads}.parquet"
        command = [sys.executable, "-m", "deepad", "score", "--scorer", saved, images / "x.npy", "--output", output]
        environment = {"OMP_NUM_THREADS": threads, "PATH": "/usr/bin:/bin"}
        subprocess.run(list(map(str, command)), check=True, env=environment, capture_output=True)
        table = pyarrow.parquet.read_table(output)
        assert table["score"].to_pylist() == whole.score.tolist()
        assert table["flagged"].to_pylist() == whole.flagged.tolist()


def test_evaluate_takes_labels_from_a_file_or_an_array(saved, images, capsys):
    for inputs, labels in (("x.npy", images / "y.npy"), ("xy.npz", "y")):
        arguments = ["--scorer", str(saved), str(images / inputs), "--labels", str(labels), "--json"]
        assert main(["evaluate", *arguments]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["n_anomalies"] == 180
        assert 0.5 < result["ranking"]["auroc"] <= 1
    assert main(["evaluate", *arguments[:-1], "--anomalous", "0", "--alpha", "0.1"]) == 0
    assert "auroc" in capsys.readouterr().out


def test_calibrate_makes_the_scorer_of_a_checkpoint(trained, scorer, digits, tmp_path, capsys):
    rows = digits.splits.calibration
    np.save(tmp_path / "normal.npy", rows.x[rows.index].numpy())
    target = tmp_path / "scorer"
    arguments = ["--checkpoint", trained[1], tmp_path / "normal.npy", "--output", target, "--alpha", "0.05"]
    assert main(["calibrate", *map(str, arguments)]) == 0
    again = deepad.Scorer.load(target)
    assert again.id == scorer.id
    assert np.array_equal(again.calibration.scores, scorer.calibration.scores)
    assert "at most" in capsys.readouterr().out
    assert main(["calibrate", *map(str, arguments), "--kind", "pac", "--delta", "0.05"]) == 0
    assert deepad.Scorer.load(target).decision.kind == "pac"


def test_info_says_what_a_scorer_promises(saved, scorer, capsys):
    assert main(["info", str(saved)]) == 0
    assert str(scorer.threshold.guarantee) in capsys.readouterr().out
    assert main(["info", str(saved), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == scorer.id


# ---- what is refused -------------------------------------------------------------------------------------------


def test_bad_inputs_are_refused_in_one_line_and_leave_nothing(saved, tmp_path, capsys):
    broken = np.zeros((5, 8, 8))
    broken[2, 1, 1] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    np.save(tmp_path / "wrong.npy", np.zeros((5, 3)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    output = tmp_path / "scores.csv"
    cases = {
        "missing.npy": "no file or folder at",
        "nan.npy": "1 of 5 samples hold NaN",
        "wrong.npy": "must have shape (N, 1, 8, 8), got (5, 3)",
        "objects.npy": "Python objects",
        "empty": "holds no images",
        "notes.txt": "of a kind deepad does not read",
    }
    for name, reason in cases.items():
        assert reason in refused(capsys, "score", "--scorer", saved, tmp_path / name, "--output", output)
        assert not output.exists()
    assert not list(tmp_path.glob(".*")), "no temporary file stays"


def test_an_older_output_survives_a_refused_call(saved, images, tmp_path, capsys):
    output = tmp_path / "scores.csv"
    output.write_text("old")
    np.save(tmp_path / "wrong.npy", np.zeros((5, 3)))
    refused(capsys, "score", "--scorer", saved, images / "x.npy", tmp_path / "wrong.npy", "--output", output)
    assert output.read_text() == "old"


def test_bad_scorers_are_refused_in_one_line(saved, images, tmp_path, capsys):
    truncated, altered, foreign = (tmp_path / name for name in ("truncated", "altered", "foreign"))
    for folder in (truncated, altered, foreign):
        shutil.copytree(saved, folder)
    payload = next(truncated.glob("model-*"))
    payload.write_bytes(payload.read_bytes()[:1000])
    payload = next(altered.glob("calibration-*"))
    payload.write_bytes(payload.read_bytes()[:-1] + b"\x00")
    manifest = json.loads((foreign / "scorer.json").read_text())
    manifest["calibration"]["scorer_id"] = "0" * 64
    (foreign / "scorer.json").write_text(json.dumps(sealed(manifest)))
    edited = tmp_path / "edited"
    shutil.copytree(saved, edited)
    text = (edited / "scorer.json").read_text()
    (edited / "scorer.json").write_text(text.replace('"alpha": 0.05', '"alpha": 0.9'))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"weights": 1}))
    cases = {
        truncated: "altered or cut short",
        altered: "altered or cut short",
        foreign: "belongs to model 000000000000",
        edited: "scorer.json was altered",
        tmp_path / "model.pkl": "is a pickle",
        tmp_path / "nowhere": "no artifact at",
        tmp_path: "holds no scorer.json",
    }
    for folder, reason in cases.items():
        assert reason in refused(capsys, "score", "--scorer", folder, images / "x.npy")


def test_impossible_levels_are_refused_with_what_is_needed(saved, images, capsys):
    score = ["score", "--scorer", saved, images / "x.npy"]
    assert "needs at least 9999 calibration scores, got 323" in refused(capsys, *score, "--alpha", "0.0001")
    assert "strictly between 0 and 1" in refused(capsys, *score, "--alpha", "1.5")
    assert "needs delta" in refused(capsys, *score, "--kind", "pac")
    assert "ending must be one of" in refused(capsys, *score, "--output", "scores.xls")


def test_labels_that_are_missing_or_too_few_are_refused(saved, images, tmp_path, capsys):
    evaluate = ["evaluate", "--scorer", saved, images / "x.npy", "--labels"]
    np.save(tmp_path / "few.npy", np.zeros(3))
    assert "got 3 labels for 503 samples" in refused(capsys, *evaluate, tmp_path / "few.npy", "--anomalous", "0")
    labels = np.zeros(503)
    labels[7] = np.nan
    np.save(tmp_path / "missing.npy", labels)
    assert "has 1 labels missing (first at row 7)" in refused(capsys, *evaluate, tmp_path / "missing.npy")
    assert "no label is 7: the values of" in refused(capsys, *evaluate, images / "y.npy", "--anomalous", "7")
    assert "no labels at nowhere" in refused(capsys, *evaluate, "nowhere")
    assert "no label is odd" in refused(capsys, *evaluate, images / "y.npy", "--anomalous", "odd")


def test_a_rejected_checkpoint_is_not_run(images, tmp_path, capsys, monkeypatch):
    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Trap()))
    arguments = ["calibrate", "--checkpoint", tmp_path / "evil.ckpt", images / "x.npy", "--output", tmp_path / "out"]
    assert "nothing in it was run" in refused(capsys, *arguments)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # which overrides what is not said explicitly
    assert "nothing in it was run" in refused(capsys, *arguments)
    assert not trap.exists()
    assert "no checkpoint at" in refused(capsys, *arguments[:2], tmp_path / "none.ckpt", *arguments[3:])
    assert not (tmp_path / "out").exists()


def test_calibrating_on_training_rows_is_refused(trained, digits, tmp_path, capsys):
    rows = digits.splits.train
    np.save(tmp_path / "train.npy", rows.x[rows.index].numpy())
    arguments = ["calibrate", "--checkpoint", trained[1], tmp_path / "train.npy", "--output", tmp_path / "out"]
    assert "trained or selected this model" in refused(capsys, *arguments)
    assert not (tmp_path / "out").exists()


def test_fit_refuses_before_it_trains(finished, tmp_path, capsys):
    fit = ["fit", "--data=Digits", "--model=DenseAutoencoder"]
    run = f"--run={tmp_path / 'run'}"
    assert "needs at least" in refused(capsys, *fit, run, "--calibration.alpha=0.0001")
    assert "classes must be some of 0..9" in refused(capsys, *fit, run, "--data.held_out=12")
    assert "noise must be >= 0" in refused(capsys, *fit, run, "--model.noise=-1")
    assert "holds a finished run" in refused(capsys, *fit, f"--run={finished}")
    assert "no checkpoint at" in refused(capsys, *fit, run, "--ckpt_path=none.ckpt")
    last = f"--ckpt_path={finished / 'checkpoints/last.ckpt'}"
    contradiction = refused(capsys, *fit, "--model.latent_dim=3", last)
    assert "latent_dim=10 (config: 3)" in contradiction
    assert "belongs to the run in" in refused(capsys, *fit, run, last)
    assert "trained or selected this model" in refused(capsys, *fit, last, "--data.seed=1")
    assert "devices" in refused(capsys, *fit, run, "--trainer.devices=0")
    assert (finished / "metrics.json").exists()
    assert not (tmp_path / "run").exists()


def test_fit_never_touches_files_that_are_not_a_runs(tmp_path, capsys, monkeypatch):
    (tmp_path / "training_data").mkdir()
    (tmp_path / "training_data" / "a.npy").write_bytes(b"precious")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"precious")
    fit = ["fit", "--data=Digits", "--model=DenseAutoencoder", f"--run={tmp_path}"]
    for more in ([], ["--overwrite"]):
        assert "holds other files" in refused(capsys, *fit, *more)
    assert (tmp_path / "training_data" / "a.npy").read_bytes() == b"precious"
    (tmp_path / "config.yaml").write_text("")  # as a run that was cut off leaves it
    message = refused(capsys, *fit)
    assert "holds a run that was cut off" in message
    assert "--ckpt_path=" in message
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == b"precious"


def test_a_training_without_a_step_is_no_training(tmp_path, capsys):
    fit = ["fit", "--data=Digits", "--model=DenseAutoencoder", f"--run={tmp_path / 'run'}"]
    assert "no training step was taken" in refused(capsys, *fit, "--trainer.max_epochs=0")
    assert main([*fit, "--trainer.fast_dev_run=true", "--overwrite"]) == 0
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_whole_numbers_are_split_sizes(tmp_path, capsys):
    sizes = ["--data.val_size=100", "--data.calibration_size=300", "--data.test_size=0.2"]
    fit = ["fit", "--data=Digits", "--model=DenseAutoencoder", "--trainer.max_epochs=1", f"--run={tmp_path / 'run'}"]
    assert main([*fit, *sizes, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["val"]["n"], data["calibration"]["n"]) == (100, 300)


def test_a_torchvision_for_another_torch_is_named_before_lightning_fails(tmp_path):
    info = tmp_path / "torchvision-0.1.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: torchvision", "Version: 0.1", "Requires-Dist: torch==1.0"]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for code in ("from deepad.cli import main; sys.exit(main(['fit', '--help']))", "import deepad.sklearn"):
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 1
        assert "torchvision 0.1 needs torch==1.0" in result.stderr
        assert "operator" not in result.stderr


def test_fit_refuses_data_that_are_not_there(tmp_path, capsys):
    arguments = ["fit", "--data=MNIST", f"--data.root={tmp_path}", "--data.download=false", "--model=DenseAutoencoder"]
    message = refused(capsys, *arguments, f"--run={tmp_path / 'run'}")
    assert str(tmp_path / "MNIST" / "raw") in message
    assert "train-images-idx3-ubyte" in message
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_exits_with_2(tmp_path, capsys):
    assert "not accepted" in refused(capsys, "fit", "--data=Digits", "--data.nonsense=3", status=2)
    (tmp_path / "bad.yaml").write_text("data: Digits\nmodel: DenseAutoencoder\nnonsense: 3\n")
    assert "nonsense" in refused(capsys, "fit", "--config", tmp_path / "bad.yaml", status=2)
    message = refused(capsys, "fit", "--data=Nope", "--model=DenseAutoencoder", status=2)
    assert "Digits" in message
    assert "DenseAutoencoder" in message
    assert "File does not exist" in refused(capsys, "fit", "--config", tmp_path / "none.yaml", status=2)
    assert "required" in refused(capsys, "score", status=2)
    assert "invalid choice" in refused(capsys, "nonsense", status=2)


# ---- synthetic data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("name", ["transactions", "network"])
def test_generate_writes_the_table_that_python_gives(name, kind, tmp_path, capsys):
    output = tmp_path / f"data.{kind}"
    arguments = ["--rows", "300", "--rate", "0.1", "--severity", "2", "--seed", "7", "--duration", "4"]
    assert main(["generate", name, "--output", str(output), *arguments]) == 0
    table = generate(name, rows=300, rate=0.1, severity=2.0, seed=7, duration=4)
    if kind == "jsonl":
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        columns = {column: [row[column] for row in rows] for column in rows[0]}
        columns |= {"timestamp": [np.datetime64(t) for t in columns["timestamp"]]} if name == "network" else {}
    else:
        read = pyarrow.csv.read_csv(output) if kind == "csv" else pyarrow.parquet.read_table(output)
        columns = {column: read[column].to_pylist() for column in read.column_names}
    assert list(columns) == table.column_names
    assert columns == {column: table[column].to_pylist() for column in table.column_names}
    out = capsys.readouterr().out
    assert out.count("\n") == 2
    assert f"300 rows of {name}, seed 7 in {output}" in out
    assert "30 of them anomalous" in out


def test_generated_files_without_labels_hold_samples_alone(tmp_path, capsysbinary):
    output = tmp_path / "agents.parquet"
    options = ["--rows", "50", "--patterns", "degraded", "runaway_loop", "--rate", "0.2", "--no-labels"]
    assert main(["generate", "agents", "--output", str(output), *options, "--json"]) == 0
    assert json.loads(capsysbinary.readouterr().out) == {
        "generator": "agents", "seed": 0, "rows": 50, "anomalies": 10,
        "patterns": {"degraded": 5, "runaway_loop": 5}, "output": str(output),
    }  # fmt: skip
    assert pyarrow.parquet.read_table(output).column_names == generate("agents").column_names[:-2]
    assert main(["generate", "agents", *options]) == 0
    written = capsysbinary.readouterr()
    assert written.out.count(b"\n") == 51
    assert b"50 rows of agents" in written.err
    assert main(["generate", "sensors", "--rows", "40", "--anomaly-free", "0", "--json"]) == 0
    rows = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert rows[1]["timestamp"] == "2024-01-01 00:01:00.000"


def test_generate_lists_what_there_is(capsys):
    assert main(["generate", "--list"]) == 0
    text = capsys.readouterr().out
    assert main(["generate", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed.keys() == GENERATORS.keys()
    for name, generator in GENERATORS.items():
        assert listed[name]["patterns"] == list(generator.patterns)
        assert f"{name}: {generator.purpose} ({generator.kind})" in text
        assert ", ".join(listed[name]["columns"]) in text


def test_data_that_cannot_be_generated_are_refused_and_leave_nothing(tmp_path, capsys):
    output = ["--output", tmp_path / "data.csv"]
    assert "give the NAME of the data, or --list" in refused(capsys, "generate", *output, status=2)
    assert "invalid int value" in refused(capsys, "generate", "agents", "--rows", "many", status=2)
    assert "give one of transactions" in refused(capsys, "generate", "nothing", *output)
    assert "0 <= rate < 0.5" in refused(capsys, "generate", "agents", "--rate", "0.5", *output)
    assert "has no pattern x" in refused(capsys, "generate", "agents", "--patterns", "x", *output)
    assert "agents takes no duration" in refused(capsys, "generate", "agents", "--duration", "3", *output)
    assert "ending must be one of" in refused(capsys, "generate", "agents", "--output", tmp_path / "data.xls")
    assert list(tmp_path.iterdir()) == []


# ---- series ------------------------------------------------------------------------------------------------------

SERIES = ["--data=Series", "--data.generator=sensors", "--data.generator_args={rows: 1200, rate: 0.05}"]
SERIES += ["--data.window_size=12", "--data.missing=hold", "--data.max_gap=3", "--model=DenseAutoencoder"]
SERIES += ["--model.hidden_dims=[16]", "--model.latent_dim=4", "--trainer.max_epochs=2"]


@pytest.fixture(scope="module")
def series_run(tmp_path_factory):
    """A run folder of a series."""
    folder = tmp_path_factory.mktemp("series") / "run"
    assert main(["fit", *SERIES, "--calibration.alpha=0.1", f"--run={folder}"]) == 0
    return folder


@pytest.fixture
def recording(tmp_path):
    """A recording as a CSV file, and as a table."""
    table = generate("sensors", rows=300, rate=0.1, seed=9)
    pyarrow.csv.write_csv(table, tmp_path / "pump.csv")
    return tmp_path / "pump.csv", table


def scored(capsys, *arguments):
    """What `deepad score --json` prints: one dictionary a row; and what it says."""
    assert main(["score", *map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], json.loads(err)


def test_fit_on_a_series_leaves_a_whole_run_folder(series_run):
    metrics = json.loads((series_run / "metrics.json").read_text())
    scores = pyarrow.parquet.read_table(series_run / "scores.parquet").to_pandas()
    assert metrics["guarantee"]["kind"] == "none"
    assert metrics["test"]["at_threshold"]["inside_law_99"] is None
    assert metrics["data"]["window_size"] == 12
    assert metrics["data"]["steps"]["test"] == metrics["test"]["n"] == len(scores) == 600 - 12
    assert scores["index"].tolist() == list(range(612, 1200))
    assert scores["y"].sum() == generate("sensors", rows=1200, rate=0.05)["label"].to_numpy()[612:].sum()
    assert metrics["floors"].keys() == FLOORS.keys()
    assert (series_run / "report.html").stat().st_size > 1000
    scorer = deepad.Scorer.load(series_run / "scorer")
    assert (scorer.steps.rule, scorer.inputs.time) == ("last", "timestamp")


@pytest.mark.parametrize("extra", [["--calibration.rule=mean"], ["--data.embargo=0", "--calibration.rule=window"]])
def test_fit_on_a_series_takes_every_rule_and_embargo(extra, tmp_path, capsys):
    assert main(["fit", *SERIES, *extra, "--trainer.max_epochs=1", f"--run={tmp_path / 'run'}", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    scores = pyarrow.parquet.read_table(tmp_path / "run" / "scores.parquet")
    assert scores["flagged"].null_count == metrics["test"]["n_unscored"] == (11 if "--data.embargo=0" in extra else 0)
    assert metrics["guarantee"]["n"] == {"mean": 138, "window": 139}[extra[-1].split("=")[1]]


def test_fit_refuses_what_a_series_or_a_table_cannot_have_before_it_trains(tmp_path, capsys):
    run = f"--run={tmp_path / 'run'}"
    for promise in (["--calibration.kind=marginal"], ["--calibration.kind=pac", "--calibration.delta=0.1"],
                    ["--calibration.delta=0.1"]):  # fmt: skip
        message = refused(capsys, "fit", *SERIES, *promise, run)
        assert "cannot be promised for a series, whose steps are dependent: leave it out" in message
    assert "rule must be one of last, window" in refused(capsys, "fit", *SERIES, "--calibration.rule=first", run)
    for embargo, n in ((12, 138), (0, 139)):  # of 150 steps; the first of a window are not scored
        few = refused(capsys, "fit", *SERIES, f"--data.embargo={embargo}", "--calibration.alpha=0.001", run)
        assert f"needs at least 999 calibration scores, got {n}" in few
    assert "holds no window" in refused(capsys, "fit", *SERIES, "--data.embargo=95", run)
    assert "the 600 steps before test" in refused(
        capsys, "fit", *SERIES, "--data.generator_args={rows: 1200, rate: 0.05, anomaly_free: 0}", run
    )
    table = ["--data=Table", "--data.generator=transactions", "--data.generator_args={rows: 1000}"]
    message = refused(capsys, "fit", *table, "--model=DenseAutoencoder", "--calibration.rule=last", run)
    assert "rule='last' is for steps of a series, transactions has none: leave it out" in message
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_scored_one_line_a_row_as_in_python(series_run, recording, tmp_path, capsys):
    path, table = recording
    verdict = deepad.Scorer.load(series_run / "scorer")(table)
    output = tmp_path / "scores.parquet"
    assert main(["score", "--scorer", str(series_run / "scorer"), str(path), "--output", str(output)]) == 0
    rows = pyarrow.parquet.read_table(output)
    np.testing.assert_array_equal(rows["score"].to_numpy(), verdict.score)
    assert rows["flagged"].to_pylist() == [None] * 11 + verdict.flagged[11:].tolist()
    assert rows["index"].to_pylist() == list(range(300))
    assert rows["time"][0].as_py() == "2024-01-01 00:00:00"
    said = capsys.readouterr().out
    assert "300 steps (11 of them not scored: no window ends there)" in said
    assert "no guarantee" in said


def test_order_of_rows_and_columns_of_a_recording_do_not_matter(series_run, recording, tmp_path, capsys):
    path, table = recording
    order = np.random.default_rng(0).permutation(300)
    pyarrow.csv.write_csv(table.select(table.column_names[::-1]).take(order), tmp_path / "shuffled.csv")
    expected, report = scored(capsys, "--scorer", series_run / "scorer", path)
    rows, again = scored(capsys, "--scorer", series_run / "scorer", tmp_path / "shuffled.csv")
    for place, row in zip(order, rows, strict=True):
        assert [row[name] for name in ("score", "flagged", "time")] == [
            expected[place][name] for name in ("score", "flagged", "time")
        ]
    assert [row["index"] for row in rows] == list(range(300))
    notes = again.pop("notes")
    assert (notes[0].startswith(f"{tmp_path / 'shuffled.csv'}: rows out of order"), len(notes)) == (True, 1)
    assert again | {"notes": []} == report
    assert (report["n"], report["unscored"], report["if_all_normal_95"]) == (300, 11, None)


def test_missing_values_of_a_recording_are_held_or_leave_rows_unscored(series_run, recording, tmp_path, capsys):
    path, _ = recording
    lines = path.read_text().splitlines()
    for row in (100, 101, *range(200, 206)):
        cells = lines[row + 1].split(",")
        lines[row + 1] = ",".join([cells[0], "", *cells[2:]])
    (tmp_path / "holes.csv").write_text("\n".join(lines) + "\n")
    rows, report = scored(capsys, "--scorer", series_run / "scorer", tmp_path / "holes.csv")
    missing = [row["index"] for row in rows if row["flagged"] is None]
    assert missing == [*range(11), *range(203, 206), *range(206, 206 + 11)], "held for three steps, split after that"
    assert report["unscored"] == len(missing)


def test_bad_recordings_are_refused_in_one_line_and_leave_nothing(series_run, recording, tmp_path, capsys):
    path, table = recording
    where = {name: tmp_path / f"{name}.csv" for name in ("lacking", "short", "slow", "twice", "text")}
    pyarrow.csv.write_csv(table.drop_columns(["flow"]), where["lacking"])
    pyarrow.csv.write_csv(table.slice(0, 5), where["short"])
    pyarrow.csv.write_csv(table.take(np.arange(0, 300, 5)), where["slow"])
    pyarrow.csv.write_csv(table.take([0, 0, *range(1, 300)]), where["twice"])
    where["text"].write_text(path.read_text().replace("2024-01-01 00:03:00", "later"))
    reasons = {
        "lacking": "lacking.csv: the series lacks the columns flow; it has timestamp, temperature",
        "short": "none of the 5 steps can be scored: that takes windows of 12 steps in a row, without gaps",
        "slow": "slow.csv: the series has a row every 300 s, the model takes one every 60 s: resample it",
        "twice": "1 rows repeat a timestamp of 'timestamp' (first at row 1)",
        "text": "'timestamp' is no column of times",
    }
    np.save(tmp_path / "narrow.npy", np.zeros((50, 3)))
    where["narrow"], reasons["narrow"] = (
        tmp_path / "narrow.npy",
        "narrow.npy: samples must have shape (N, 4), got (50, 3)",
    )
    where["nothing"], reasons["nothing"] = tmp_path / "nothing.csv", "no file at"
    output = tmp_path / "scores.csv"
    for name, reason in reasons.items():
        for arguments in ([where[name]], [where[name], "--json"], [where[name], "--output", output]):
            assert reason in refused(capsys, "score", "--scorer", series_run / "scorer", *arguments)
        labelled = ["--labels", "label"] if name not in ("narrow", "nothing") else ["--labels", path]
        assert refused(capsys, "evaluate", "--scorer", series_run / "scorer", where[name], *labelled)
    assert not output.exists()
    message = refused(capsys, "score", "--scorer", series_run / "scorer", path, "--kind", "marginal")
    assert "kind='marginal' cannot be promised: steps of a series depend on each other" in message


def test_a_short_recording_among_others_is_left_unscored(series_run, recording, tmp_path, capsys):
    path, table = recording
    pyarrow.csv.write_csv(table.slice(0, 5), tmp_path / "a-short.csv")
    rows, report = scored(capsys, "--scorer", series_run / "scorer", tmp_path / "a-short.csv", path)
    assert [row["flagged"] for row in rows[:16]] == [None] * 16
    assert (report["n"], report["unscored"]) == (305, 16)
    assert [row["index"] for row in rows] == [*range(5), *range(300)]
    folder, _ = scored(capsys, "--scorer", series_run / "scorer", tmp_path)  # both lie in this folder
    assert folder == rows


def test_arrays_of_steps_are_recordings(series_run, recording, tmp_path, capsys):
    path, table = recording
    np.save(tmp_path / "pump.npy", np.stack([table[name].to_numpy() for name in table.column_names[1:5]], 1))
    expected, _ = scored(capsys, "--scorer", series_run / "scorer", path)
    rows, _ = scored(capsys, "--scorer", series_run / "scorer", path, tmp_path / "pump.npy")
    assert [row["score"] for row in rows] == 2 * [row["score"] for row in expected]
    assert [row["time"] for row in rows[299:302]] == ["2024-01-01 04:59:00", None, None]


def test_evaluate_takes_the_labels_of_a_recording_by_column(series_run, recording, capsys):
    path, table = recording
    arguments = ["--scorer", str(series_run / "scorer"), str(path)]
    assert main(["evaluate", *arguments, "--labels", "label", "--ignore", "pattern", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_anomalies"] == table["label"].to_numpy().sum()
    assert (result["n"], result["n_unscored"], result["n_invalid"]) == (300, 11, 0)
    assert main(["evaluate", *arguments, "--labels", "pattern", "--anomalous", "spike", "stuck", "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["n_anomalies"] < result["n_anomalies"]
    assert main(["evaluate", *arguments, "--labels", "label"]) == 0
    said = capsys.readouterr().out
    assert "no guarantee" in said
    assert "law_99: undefined" in said
    assert "there must be one column 'nothing' for labels" in refused(
        capsys, "evaluate", *arguments, "--labels", "nothing"
    )


def test_calibrate_scores_steps_by_the_rule_that_is_named(series_run, tmp_path, capsys):
    pyarrow.csv.write_csv(generate("sensors", rows=500, rate=0, seed=77), tmp_path / "normal.csv")
    arguments = ["--checkpoint", series_run / "checkpoints/best.ckpt", tmp_path / "normal.csv"]
    arguments += ["--output", tmp_path / "scorer"]
    for rule, n in ((None, 489), ("mean", 500), ("window", 489)):
        chosen = [] if rule is None else ["--rule", rule]
        assert main(["calibrate", *map(str, arguments), *chosen, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["steps"] == {"window_size": 12, "rule": rule or "last", "stride": 1}
        assert report["calibration"]["n"] == n
        assert report["decision"] == {"alpha": 0.05, "kind": "none", "delta": None, "tiers": None, "rule": None}
        assert report["inputs"]["channels"] == ["temperature", "pressure", "vibration", "flow"]
    before = (tmp_path / "scorer" / "scorer.json").read_bytes()
    assert "cannot be promised" in refused(capsys, "calibrate", *arguments, "--kind", "marginal")
    assert "rule must be one of" in refused(capsys, "calibrate", *arguments, "--rule", "first")
    training = generate("sensors", rows=1200, rate=0.05)
    pyarrow.csv.write_csv(training.slice(0, 300), tmp_path / "normal.csv")
    assert "trained or selected this model" in refused(capsys, "calibrate", *arguments)
    assert (tmp_path / "scorer" / "scorer.json").read_bytes() == before


def test_a_rule_for_a_model_of_samples_is_refused(trained, images, tmp_path, capsys):
    arguments = ["--checkpoint", trained[1], images / "x.npy", "--output", tmp_path / "scorer", "--rule", "last"]
    message = refused(capsys, "calibrate", *arguments)
    assert "--rule last is for steps of a series, this model takes samples of shape (1, 8, 8): leave it out" in message


def test_info_says_how_steps_are_scored_and_of_which_channels(series_run, capsys):
    assert main(["info", str(series_run / "scorer")]) == 0
    said = capsys.readouterr().out
    assert "scores the steps of a series by the rule 'last'" in said
    assert "channels temperature, pressure, vibration, flow" in said
    assert "no guarantee" in said
    assert main(["info", str(series_run / "scorer"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"]["interval"] == 60


def test_notes_say_what_was_done_to_a_recording(series_run, recording, tmp_path, capsys):
    path, table = recording
    pyarrow.csv.write_csv(table.take(np.r_[150:300, 0:150]), tmp_path / "late.csv")
    arguments = ["--scorer", str(series_run / "scorer"), str(tmp_path / "late.csv"), str(path)]
    note = f"{tmp_path / 'late.csv'}: rows out of order at 1 places were sorted by timestamp"
    for verb in (["score", "--output", str(tmp_path / "scores.csv")], ["evaluate", "--labels", "label"]):
        assert main([*verb, *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == f"note: {note}\n"
        assert main([*verb, *arguments, "--json"]) == 0
        out, err = capsys.readouterr()
        assert (json.loads(out)["notes"], err) == ([note], "")


def test_evaluate_takes_the_anomalous_times_of_recordings(series_run, recording, tmp_path, capsys):
    path, table = recording
    bad = np.flatnonzero(table["label"].to_numpy() == 1)
    times = [str(time)[:19] for time in table["timestamp"].to_pylist()]
    intervals = {f"plant/{'/'.join(path.parts[-2:])}": [[times[row], times[row]] for row in bad], "other": []}
    (tmp_path / "bad.json").write_text(json.dumps(intervals))
    arguments = ["evaluate", "--scorer", str(series_run / "scorer"), "--json"]
    assert main([*arguments, str(path), "--labels", "label"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert main([*arguments, str(path), "--intervals", str(tmp_path / "bad.json")]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    (tmp_path / "bad.json").write_text("{}")
    assert "has no intervals for" in refused(capsys, *arguments, path, "--intervals", tmp_path / "bad.json")
    np.save(tmp_path / "pump.npy", np.zeros((50, 4)))
    message = refused(capsys, *arguments, tmp_path / "pump.npy", "--intervals", tmp_path / "bad.json")
    assert "pump.npy has neither names of columns nor timestamps" in message
    both = refused(capsys, *arguments, path, "--intervals", "a.json", "--labels", "label", status=2)
    assert "not allowed with argument" in both
    assert "one of the arguments --labels --intervals is required" in refused(capsys, *arguments, path, status=2)


def test_columns_to_ignore_must_be_there_and_mean_something(series_run, table_run, saved, recording, images, capsys):
    path, _ = recording
    score = ["score", "--scorer", series_run / "scorer", path]
    rows, _ = scored(capsys, *score[1:], "--ignore", "label", "pattern")
    assert rows == scored(capsys, *score[1:])[0]
    assert "no columns lable to ignore: there are timestamp, temp" in refused(capsys, *score, "--ignore", "lable")
    message = refused(capsys, "score", "--scorer", saved, images / "x.npy", "--ignore", "label")
    assert "--ignore is for columns of tables and series, this model takes samples by position: leave it out" in message
    missing = [*score[:2], table_run / "scorer", path.parent / "rows.csv", "--ignore", "lable"]
    pyarrow.csv.write_csv(generate("transactions", rows=20).drop_columns(["label", "pattern"]), missing[3])
    assert "rows.csv: no columns lable to ignore: there are" in refused(capsys, *missing)
    array = [*score[:2], table_run / "scorer", images / "x.npy", "--ignore", "label"]
    assert "holds encoded rows, whose columns have no names to --ignore" in refused(capsys, *array)


# ---- tables ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    """A run folder of a table with categories."""
    folder = tmp_path_factory.mktemp("table") / "run"
    fit = ["fit", "--data=Table", "--data.generator=transactions", "--data.generator_args={rows: 1500}"]
    fit += ["--model=DenseAutoencoder", "--model.hidden_dims=[16]", "--model.latent_dim=4", "--trainer.max_epochs=2"]
    assert main([*fit, f"--run={folder}"]) == 0
    return folder


def test_rows_of_a_table_are_scored_by_the_names_of_its_columns(table_run, tmp_path, capsys):
    table = generate("transactions", rows=200, rate=0.1, seed=3)
    pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
    ignore = ["--ignore", "label", "pattern"]
    rows, report = scored(capsys, "--scorer", table_run / "scorer", tmp_path / "rows.csv", *ignore)
    expected = deepad.Scorer.load(table_run / "scorer")(table.drop_columns(["label", "pattern"]))
    assert [row["score"] for row in rows] == expected.score.tolist()
    assert report["unscored"] == 0
    assert len(report["if_all_normal_95"]) == 2
    arguments = ["evaluate", "--scorer", table_run / "scorer", tmp_path / "rows.csv", "--labels", "label"]
    assert main([*map(str, arguments), "--ignore", "pattern", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_anomalies"] == 20
    assert "has the columns pattern" in refused(capsys, *arguments)
    lacking = table.drop_columns([table.column_names[0], "label", "pattern"])
    pyarrow.csv.write_csv(lacking, tmp_path / "rows.csv")
    message = refused(capsys, "score", "--scorer", table_run / "scorer", tmp_path / "rows.csv")
    assert f"lacks the columns {table.column_names[0]}" in message
    assert main(["info", str(table_run / "scorer")]) == 0
    assert f"columns {table.column_names[0]}, " in capsys.readouterr().out


def test_bad_tables_are_refused_in_one_line_with_file_and_row(table_run, tmp_path, capsys):
    table = generate("transactions", rows=9000, rate=0).drop_columns(["label", "pattern"])
    number = next(name for name, kind in zip(table.column_names, table.schema.types, strict=True) if kind == "double")
    values = table[number].to_pylist()
    values[8500] = None
    holes = table.set_column(table.column_names.index(number), number, [values])
    pyarrow.csv.write_csv(holes, tmp_path / "holes.csv")
    pyarrow.parquet.write_table(holes, tmp_path / "holes.parquet")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    (tmp_path / "short.parquet").write_bytes(b"PA")
    (tmp_path / "empty.csv").write_text(",".join(table.column_names) + "\n")
    (tmp_path / "rows.txt").write_text("hello")
    (tmp_path / "nothing").mkdir()
    reasons = {
        "holes.csv": f"holes.csv: column '{number}' has 1 missing values (first at row 8500)",
        "holes.parquet": f"holes.parquet: column '{number}' has 1 missing values (first at row 8500)",
        "ragged.csv": "ragged.csv, which is broken",
        "short.parquet": "short.parquet, which is broken",
        "empty.csv": "holds no rows",
        "rows.txt": "of a kind deepad does not read",
        "nothing": "holds no tables",
        "none.csv": "no file at",
        "none.npz": "no file or folder at",
    }
    checkpoint = table_run / "checkpoints/best.ckpt"
    for name, reason in reasons.items():
        output = tmp_path / "scores.csv"
        message = refused(capsys, "score", "--scorer", table_run / "scorer", tmp_path / name, "--output", output)
        assert reason in message
        assert not output.exists()
        assert reason in refused(capsys, "calibrate", "--checkpoint", checkpoint, tmp_path / name, "--output", "out")


def test_a_folder_of_tables_is_scored_file_by_file(table_run, tmp_path, capsys):
    table = generate("transactions", rows=60).drop_columns(["label", "pattern"])
    pyarrow.csv.write_csv(table.slice(0, 25), tmp_path / "a.csv")
    pyarrow.parquet.write_table(table.slice(25), tmp_path / "b.parquet")
    (tmp_path / "notes.txt").write_text("not a table")
    rows, _ = scored(capsys, "--scorer", table_run / "scorer", tmp_path)
    assert [row["score"] for row in rows] == deepad.Scorer.load(table_run / "scorer")(table).score.tolist()
    assert [row["index"] for row in rows] == [*range(25), *range(35)]
    assert {row["source"] for row in rows} == {str(tmp_path / "a.csv"), str(tmp_path / "b.parquet")}


SMALL = ["--model=DenseAutoencoder", "--model.hidden_dims=[8]", "--model.latent_dim=2", "--trainer.max_epochs=1"]


def test_a_category_means_the_same_whatever_else_the_file_holds(tmp_path, capsys):
    random = np.random.default_rng(0)
    rows = [f"{random.choice(['01', '02', 'A1'])},{random.choice([3, 4])},{x}" for x in random.normal(size=400)]
    rows[::50] = [row.replace(",3,", ",,") for row in rows[::50]]
    path, run = tmp_path / "train.csv", tmp_path / "run"
    path.write_text("\n".join(["code,kind,x", *rows]) + "\n")
    fit = ["fit", "--data=Table", f"--data.path={path}", "--data.categorical=[kind]", *SMALL, f"--run={run}"]
    assert main(fit) == 0
    capsys.readouterr()
    features = deepad.Scorer.load(run / "scorer").inputs.features
    assert features[:8] == ("code=01", "code=02", "code=A1", "code=(unknown)", "kind=(missing)", "kind=3", "kind=4",
                            "kind=(unknown)")  # fmt: skip
    together = [row["score"] for row in scored(capsys, "--scorer", run / "scorer", path)[0]]
    for place in (0, 1, 2, 3, 50, 100, 399):
        (tmp_path / "one.csv").write_text("\n".join(["code,kind,x", rows[place]]) + "\n")
        [row], _ = scored(capsys, "--scorer", run / "scorer", tmp_path / "one.csv")
        assert row["score"] == pytest.approx(together[place], rel=1e-6)


@pytest.mark.parametrize("missing", ["refuse", "median"])
def test_a_table_of_arrays_scores_its_own_file(missing, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(400, 3))
    y = (np.arange(400) % 40 == 0).astype(int)
    np.savez(tmp_path / "set.npz", X=x, y=y)
    np.save(tmp_path / "set.npy", x)
    pyarrow.csv.write_csv(pyarrow.table({f"x{place}": x[:, place] for place in range(3)}), tmp_path / "set.csv")
    run = tmp_path / "run"
    data = ["--data=Table", f"--data.path={tmp_path / 'set.npz'}", "--data.label=y", f"--data.missing={missing}"]
    assert main(["fit", *data, *SMALL, f"--run={run}"]) == 0
    capsys.readouterr()
    expected = [row["score"] for row in scored(capsys, "--scorer", run / "scorer", tmp_path / "set.csv")[0]]
    for name in ("set.npz", "set.npy"):
        assert [row["score"] for row in scored(capsys, "--scorer", run / "scorer", tmp_path / name)[0]] == expected
    evaluate = ["evaluate", "--scorer", run / "scorer", tmp_path / "set.npz", "--labels"]
    assert main([*map(str, evaluate), "y", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_anomalies"] == 10
    assert "holds no array 'z'" in refused(capsys, *evaluate, "z")
