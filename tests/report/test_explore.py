"""Pages to look around in: what happens when a reader clicks."""

import sys

import numpy as np
import pytest
from browser import look

from deepad import Scorer
from deepad.cli import main

READY = """
for (let i = 0; i < 200 && !(window.Bokeh && Bokeh.documents.length && Bokeh.index && Bokeh.index.roots.length); i++)
  await new Promise(done => setTimeout(done, 50));
await new Promise(done => setTimeout(done, 500));
const doc = Bokeh.documents[0], model = name => doc.get_model_by_name(name);
const press = async name => {
  for (const act of model(name).js_event_callbacks.button_click) await act.execute(model(name));
  return model("told").text;
};
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    fit = [
        "fit",
        "--model=DenseAutoencoder",
        "--model.hidden_dims=[16]",
        "--model.latent_dim=4",
        "--trainer.max_epochs=2",
    ]
    sensors = [
        "--data=Series",
        "--data.generator=sensors",
        "--data.generator_args={rows: 2000}",
        "--data.window_size=8",
    ]
    for name, data in (("series", sensors), ("images", ["--data=Digits"])):
        assert main([*fit, *data, f"--run={folder / name}"]) == 0
        assert main(["report", str(folder / name), "--explore"]) == 0
    table = ["--data=Table", "--data.generator=transactions", "--data.generator_args={rows: 1500}"]
    assert main([*fit, *table, f"--run={folder / 'table'}"]) == 0
    return folder


def test_going_from_episode_to_episode_shows_where_and_from_which_channel(runs, tmp_path):
    act = (
        READY
        + """
    const texts = [await press("next"), await press("next"), await press("previous")];
    const shares = doc.roots()[0].children.at(-2).renderers[0].data_source.data.share;
    const range = doc.roots()[0].children[2].x_range, zoomed = [range.start, range.end];
    await press("whole");
    return {texts, shares: Array.from(shares), zoomed, whole: [range.start, range.end]};
    """
    )
    found = look(runs / "series" / "explore.html", tmp_path, act=act)
    assert found["errors"] == found["requests"] == found["console"] == []
    assert found["violations"] == []
    first, second, again = found["acted"]["texts"]
    assert first.startswith("Episode 1 of ")
    assert second.startswith("Episode 2 of ")
    assert again == first
    assert "Most comes from" in first
    assert sum(found["acted"]["shares"]) == pytest.approx(100)
    begin, end = (int(word) for word in first.split(":")[1].split(",")[0].replace("steps", "").split("to"))
    assert found["acted"]["zoomed"] == [begin - max(20, end + 1 - begin), end + 1 + max(20, end + 1 - begin)]
    assert found["acted"]["whole"] == [1008, 2000]


def test_images_are_filtered_by_outcome(runs, tmp_path):
    act = (
        READY
        + """
    const boxes = model("boxes"), all = model("grid").text;
    boxes.active = [boxes.labels.indexOf("false alarm")];
    await new Promise(done => setTimeout(done, 300));
    return {labels: boxes.labels, all, some: model("grid").text, told: model("told").text};
    """
    )
    found = look(runs / "images" / "explore.html", tmp_path, act=act)
    assert found["errors"] == found["requests"] == found["console"] == []
    acted = found["acted"]
    assert acted["labels"] == ["caught", "missed", "false alarm", "normal"]
    alarms = acted["all"].count("false alarm, p = ") // 4
    assert acted["some"].count("<br>") == alarms > 3
    assert "missed" not in acted["some"]
    assert acted["told"] == f"{alarms} of {acted['all'].count('<br>')} images"
    assert (runs / "images" / "explore.html").stat().st_size < 3e6


def test_a_run_of_rows_has_nothing_to_look_around_in(runs, capsys):
    assert main(["report", str(runs / "table"), "--explore"]) == 1
    assert "for series and images, this run has neither" in capsys.readouterr().err
    assert not (runs / "table" / "explore.html").exists()


def test_without_bokeh_the_line_says_how_to_get_it(runs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "bokeh.embed", None)
    assert main(["report", str(runs / "images"), "--explore"]) == 1
    assert "pip install 'deepad[explore]'" in capsys.readouterr().err


def test_names_of_channels_are_no_html(runs, tmp_path):
    from deepad import exhibits
    from deepad.report.explore import explore_page
    from deepad.run import judged_by

    name = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
    shown = exhibits.read(runs / "series")
    scorer = Scorer.load(runs / "series" / "scorer")
    score = np.r_[np.zeros(700), np.full(300, 1e9)]
    shown["series_rows"] = np.arange(len(shown["series"]))
    names = [name] * shown["series"].shape[1]
    page = explore_page(name, judged_by(scorer, scorer.judge(score[: len(shown["series"])]), None), shown, names, name)
    (tmp_path / "page.html").write_text(page)
    act = READY + "const text = await press('next'); return {text, broken: window.broken || 0};"
    found = look(tmp_path / "page.html", tmp_path, act=act)
    assert found["acted"]["broken"] == 0
    assert "onerror" in found["acted"]["text"]
    assert found["errors"] == found["requests"] == []
