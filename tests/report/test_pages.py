"""Pages as readers meet them: in a browser, at desktop and phone widths, light and dark."""

import pytest
from browser import look, require_clean

from deepad.cli import main

DENSE = ["--model=DenseAutoencoder", "--model.hidden_dims=[32]", "--model.latent_dim=4", "--trainer.max_epochs=2"]
GENERATED = {
    "digits": ["--data=Digits"],
    "transactions": ["--data=Table", "--data.generator=transactions", "--data.generator_args={rows: 3000}"],
    "sensors": ["--data=Series", "--data.generator=sensors", "--data.generator_args={rows: 2000}",
                "--data.window_size=8"],
}  # fmt: skip
REAL = {
    "MNIST": ["--data=MNIST", "--data.held_out=9", "--data.calibration_size=2000", "--trainer.limit_train_batches=40"],
    "SKAB": ["--data=Series", "--data.path=skab/valve1/1.csv", "--data.label=anomaly", "--data.ignore=[changepoint]",
             "--data.fit_until=400", "--data.window_size=10"],
    "NAB": ["--data=Series", "--data.path=nab/data/realAWSCloudwatch/ec2_cpu_utilization_5f5533.csv",
            "--data.intervals=nab/labels/combined_windows.json", "--data.fit_until=first-anomaly",
            "--data.window_size=24", "--data.duplicates=mean"],
}  # fmt: skip


def run_of(folder, name):
    """The page of a small run."""
    assert main(["fit", *(GENERATED | REAL)[name], *DENSE, f"--run={folder / name}"]) == 0
    return folder / name / "report.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {name: run_of(folder, name) for name in GENERATED}


def test_a_bad_page_is_seen_to_be_bad(tmp_path):
    (tmp_path / "bad.html").write_text(
        '<!doctype html><html><head><title>x</title></head><body><main><h1>a</h1><img src="http://example.org/x.png">'
        '<p style="color:#ccc;background:#fff">pale</p><figure><svg role="img" aria-label="a" width="100" height="50" '
        'viewBox="0 0 100 50"><text x="80" y="20">a long text that is cut</text></svg></figure>'
        '<div style="width:3000px">wide</div><script>nothing.here()</script></main></body></html>'
    )
    found = look(tmp_path / "bad.html", tmp_path)
    assert any("nothing is not defined" in error for error in found["errors"])
    assert found["requests"] == ["http://example.org/x.png"]
    assert found["cut"] == ["a long text that is cut"]
    assert found["wide"] > 1000
    assert found["console"]
    assert {violation.split(":")[0] for violation in found["violations"]} == {
        "color-contrast", "html-has-lang", "image-alt",
    }  # fmt: skip
    with pytest.raises(AssertionError):
        require_clean(found)


@pytest.mark.parametrize("name", GENERATED)
def test_the_page_of_a_run_is_whole_and_accessible(pages, name, tmp_path):
    found = look(pages[name], tmp_path)
    require_clean(found)
    assert found["figures"] >= 9
    assert found["smallest"] >= 8, "pixels of a line of text"
    phone = look(pages[name], tmp_path, width=400, dark=True)
    require_clean(phone)
    assert phone["figures"] == found["figures"]
    assert pages[name].stat().st_size < 1e6


@pytest.mark.parametrize("name", REAL)
def test_pages_of_real_data(deepad_data, name, tmp_path):
    page = run_of(tmp_path, name)
    for width, dark in ((1000, False), (400, True)):
        found = look(page, tmp_path, width=width, dark=dark)
        require_clean(found)
        assert found["figures"] >= 9
    assert page.stat().st_size < 3e6


def test_the_page_of_a_comparison(tmp_path):
    (tmp_path / "plan.yaml").write_text(
        "data: {digits: {class_path: Digits, each: {held_out: [0, 1, 2, 3]}}}\n"
        "models: {Gaussian: MultivariateGaussian, k-means: KMeansDistance}\nseeds: [0]\n"
    )
    folder = tmp_path / "out"
    assert main(["compare", f"--config={tmp_path / 'plan.yaml'}", f"--output={folder}", "--jobs=1"]) == 0
    page = folder / "report.html"
    assert page.read_text().count("<p>") < 10, "sentences, not their letters"
    assert "<p>Means over 4 data sets" in page.read_text()
    for width in (1000, 400):
        found = look(page, tmp_path, width=width)
        require_clean(found)
        assert found["figures"] == 1


def test_explanations_and_judged_files_are_pages_too(pages, tmp_path):
    folder = pages["sensors"].parent
    assert main(["generate", "sensors", "--rows=600", "--seed=3", f"--output={tmp_path / 'x.csv'}"]) == 0
    ignore = ["--ignore", "label", "pattern"]
    common = ["--scorer", str(folder / "scorer"), str(tmp_path / "x.csv")]
    assert main(["explain", *common, *ignore, "--top=3", f"--report={tmp_path / 'explained.html'}"]) == 0
    judged = ["--labels=label", "--ignore=pattern", f"--report={tmp_path / 'judged.html'}"]
    assert main(["evaluate", *common, *judged]) == 0
    for name, figures in (("explained", 3), ("judged", 14)):
        for width in (1000, 400):
            found = look(tmp_path / f"{name}.html", tmp_path, width=width)
            require_clean(found)
            assert found["figures"] >= figures
