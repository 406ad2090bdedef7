"""Laws that hold for every model, deep, classical or composed, through `Scorer`: members are found by looking."""

import json
import random
import subprocess
import sys
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from everymodel import BASELINES, COMPOSED, DETECTORS, NAMES, fit_detector, fit_model, rows, same, scorer, unseen
from threadpoolctl import threadpool_limits

from deepad import Scorer
from deepad.baselines.base import BLOCK
from deepad.comparison.cell import Bench
from deepad.comparison.plan import Plan
from deepad.data import Digits, Series, Table
from deepad.data.synthetic import GENERATORS, generate
from deepad.detectors.base import Detector
from deepad.evaluation.bootstrap import intervals, paired_difference
from deepad.scoring.conformal import TIE_RTOL

HERE = Path(__file__).parent
each = pytest.mark.parametrize("name", NAMES)


# ---- the same seed, the same numbers -------------------------------------------------------------------------------

FRESH = """
import hashlib, json, sys
import torch
torch.manual_seed(1234)  # not what the models were fitted with
from everymodel import scorer, unseen
found = {}
for name in reversed(json.loads(sys.argv[1])):
    verdict = scorer(name)(unseen(name))
    found[name] = [scorer(name).id, hashlib.sha256(verdict.score.tobytes() + verdict.p_value.tobytes()).hexdigest()]
print(json.dumps(found))
"""


def test_fitting_calibrating_and_judging_in_a_fresh_process_gives_the_same_ids_and_bits():
    names = [name for name in NAMES if name != "MatrixProfile"]  # compiles longer than all others take
    path = [str(HERE), str(HERE.parent), *filter(None, sys.path)]
    code = f"import sys; sys.path[:0] = {path!r}\n{FRESH}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, json.dumps(names)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == set(names)
    for name in names:
        verdict = scorer(name)(unseen(name))
        assert found[name] == [scorer(name).id, sha256(verdict.score.tobytes() + verdict.p_value.tobytes()).hexdigest()]


@each
def test_the_number_of_threads_changes_no_bit(name):
    x, expected, before = unseen(name), scorer(name)(unseen(name)), torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                assert same(scorer(name)(x), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_the_number_of_threads_changes_no_bit_of_a_fit(name):
    with threadpool_limits(2):
        other = fit_model(name, scorer(name).model.shape).state_arrays()
    expected = scorer(name).model.state_arrays()
    assert all(other[key].tobytes() == expected[key].tobytes() for key in expected)


@contextmanager
def global_generators_untouched(*, torch_may_move=False):
    """The generators of Python, NumPy and torch are afterwards what they were before, and not in their first state."""
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    random.random(), np.random.normal(), torch.randn(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    assert random.getstate() == before[0]
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(after[1], before[1][1])
    assert (after[0], *after[2:]) == (before[1][0], *before[1][2:])
    assert torch_may_move or torch.equal(torch.get_rng_state(), before[2])


@each
@pytest.mark.filterwarnings("ignore:all 60 calibration scores equal 0")  # of ConstantScore
def test_no_model_touches_a_global_generator_from_calibration_to_loading(name, tmp_path):
    x, model = unseen(name), scorer(name).model
    with global_generators_untouched():
        if name not in DETECTORS:
            fit_model(name, model.shape)
        made = Scorer.calibrate(model, rows("calibration", model.shape), alpha=0.1)
        made(x)
        list(made.stream(x))
        made.explain(x, [0, 3])
        made.save(tmp_path / "scorer")
        Scorer.load(tmp_path / "scorer")(x)


@pytest.mark.parametrize("name", DETECTORS)
def test_training_moves_the_generator_of_torch_and_no_other(name):
    with global_generators_untouched(torch_may_move=True):
        fit_detector(name, scorer(name).model.shape, epochs=1, forked=False)


def test_metrics_and_synthetic_data_touch_no_global_generator():
    y = np.arange(60) % 5 == 0
    score = np.random.default_rng(0).normal(size=60) + y
    with global_generators_untouched():
        intervals(y, score, draws=50)
        paired_difference(y, score, -score, draws=50)
        for name in GENERATORS:
            generate(name, rows=600)


@pytest.mark.parametrize(
    "data",
    [
        Digits,
        lambda: Table(generator="transactions", generator_args={"rows": 600}),
        lambda: Series(generator="sensors", generator_args={"rows": 1500}, window_size=16),
    ],
    ids=["Digits", "Table", "Series"],
)
def test_data_modules_touch_no_global_generator(data):
    with global_generators_untouched():
        module = data()
        for loader in ("train", "val", "calibration", "test", "predict"):
            assert list(getattr(module, f"{loader}_dataloader")())


def test_comparing_touches_no_global_generator():
    table = {"class_path": "Table", "init_args": {"generator": "transactions", "generator_args": {"rows": 600}}}
    deep = {"class_path": "DenseAutoencoder", "trainer": {"max_epochs": 1}}
    plan = Plan.of({"data": {"d": table}, "models": {"forest": "IsolationForest", "deep": deep}})
    with global_generators_untouched():
        bench = Bench(plan, "d", 0)
        assert all(bench.measure(cell)[0]["error"] is None for cell in plan.cells() if cell.seed == 0)


def test_figures_touch_no_global_generator(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parent / "report" / "figures"))
    from gallery import usual

    with global_generators_untouched():
        for draw in usual().values():
            plt.close(draw())


# ---- the same sample, the same verdict -----------------------------------------------------------------------------


@each
def test_a_verdict_is_the_same_in_any_part_any_order_and_any_batches(name):
    x, judge = unseen(name), scorer(name)
    expected = judge(x)
    order = np.random.default_rng(1).permutation(len(x))
    assert same(judge(x[order]), expected[order])
    for some in (slice(0, 1), slice(5, 12), slice(3, None, 7)):
        assert same(judge(x[some]), expected[some])
    for size in (1, 7, BLOCK, 1000):
        assert same(judge(x[start : start + size] for start in range(0, len(x), size)), expected)


def gapped(x):
    wide = np.full((2 * len(x), *x.shape[1:]), np.nan)
    wide[::2] = x
    return wide[::2]


FORMS = {
    "list": lambda x: x.tolist(),
    "Fortran": np.asfortranarray,
    "gaps": gapped,
    "backwards": lambda x: np.flip(np.flip(x).copy()),
    **{kind: lambda x, kind=kind: x.astype(kind) for kind in ("f4", "f2", "i1", "u1", "i8", "u8", ">f8", ">f4", ">i2")},
    "tensor": torch.tensor,
    **{
        str(kind): lambda x, kind=kind: torch.tensor(x).to(kind)
        for kind in (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int64)
    },
    "gradient": lambda x: torch.tensor(x).requires_grad_(),
}


@each
def test_a_verdict_is_the_same_in_whatever_form_a_sample_comes_and_leaves_it_as_it_was(name, tmp_path):
    x, judge = unseen(name)[:40], scorer(name)
    assert not x.flags.writeable
    expected = judge(x)
    for form in FORMS.values():
        given = form(x)
        before = given.clone() if isinstance(given, torch.Tensor) else np.array(given)
        assert same(judge(given), expected)
        assert torch.equal(given, before) if isinstance(given, torch.Tensor) else np.array_equal(given, before)
    np.save(tmp_path / "x.npy", x)
    content = (tmp_path / "x.npy").read_bytes()
    assert same(judge(np.load(tmp_path / "x.npy", mmap_mode="r")), expected)
    assert (tmp_path / "x.npy").read_bytes() == content
    assert same(judge(x > 64), judge((x > 64).astype(float)))


@pytest.mark.parametrize("name", [*DETECTORS, *COMPOSED])
def test_a_detector_on_another_device_decides_the_same(name):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    x, judge = unseen(name), scorer(name)
    parts = judge.model.parts.values() if name in COMPOSED else [judge.model]
    detectors = [part for part in parts if isinstance(part, Detector)]
    expected = judge(x)
    try:
        for detector in detectors:
            detector.to("cuda")
        moved = judge(torch.tensor(x, device="cuda"))
        assert same(judge(x), moved)
    finally:
        for detector in detectors:
            detector.cpu()
    np.testing.assert_allclose(moved.score, expected.score, rtol=TIE_RTOL)
    assert np.array_equal(moved.flagged, expected.flagged)
