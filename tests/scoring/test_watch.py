"""A series judged as it comes: in any pieces, sent twice, with steps missing, over crashes, as it would be at once."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import within
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad import Scorer
from deepad.baselines import MeanDistance, PCAResidual
from deepad.data.windows import StepRule, windows_of
from deepad.errors import ArtifactCorruptError, ArtifactError, ArtifactUnsafeError, CalibrationMismatchError, InputError
from deepad.scoring.artifact import canonical_json, sealed, write_artifact
from deepad.scoring.eventrule import EventRule
from deepad.scoring.watch import MANIFEST, Watch

SIZE, CHANNELS = 4, 2
EVENTS = {
    "plain": None,
    "standardised": EventRule(standardize=20),
    "persistent": EventRule(persistence=(2, 7)),
    "both": EventRule(standardize=20, persistence=(3, 8)),
}
RULES = [StepRule(SIZE, "last"), StepRule(SIZE, "window"), StepRule(SIZE, "last", 3)]


def series(n, seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(size=(n, CHANNELS)), axis=0)


@pytest.fixture(scope="module", name="model")
def _model():
    return PCAResidual(2).fit(windows_of(series(300, 9), SIZE).copy())


@pytest.fixture(scope="module", name="scorers")
def _scorers(model):
    held = series(600, 5)
    return [Scorer.calibrate(model, held, steps=rule, events=events) for rule in RULES for events in EVENTS.values()]


def same(verdict, other):
    names = ("score", "p_value", "flagged", "unscored")
    return all(getattr(verdict, name).tobytes() == getattr(other, name).tobytes() for name in names)


def joined(verdicts):
    return type(verdicts[0]).join(verdicts)


MOVES = st.lists(st.tuples(st.sampled_from(["go on", "go on", "restart", "again"]), st.integers(0, 40)), max_size=12)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(which=st.integers(0, len(RULES) * len(EVENTS) - 1), moves=MOVES)
def test_in_any_pieces_sent_again_and_over_restarts_the_verdicts_are_those_of_a_call(
    scorers, tmp_path_factory, which, moves
):
    scorer, x = scorers[which], series(90, 1)
    ids, state = np.arange(90) + 1000, tmp_path_factory.mktemp("watch")
    watch, verdicts, place, repeated = Watch(scorer), [], 0, 0
    for move, count in [*moves, ("go on", len(x))]:
        if move == "restart":
            watch.save(state)
            watch = Watch.load(state, scorer)
        elif move == "again":  # up to where we are
            begin = max(0, place - count)
            verdict, new = watch.push(x[begin:place], ids[begin:place])
            repeated += place - begin
            assert len(verdict) == new.sum() == 0
        else:
            verdict, new = watch.push(x[place : place + count], ids[place : place + count])
            verdicts.append(verdict)
            assert new.all()
            place = min(place + count, len(x))
    assert same(joined(verdicts), scorer(x))
    assert (watch.judged, watch.repeated, watch.stretches, watch.last) == (90, repeated, 1, 1089)


def test_old_and_new_steps_in_one_piece_are_told_apart(scorers):
    watch, x = Watch(scorers[0]), series(30, 2)
    first, _ = watch.push(x[:20], range(20))
    rest, new = watch.push(x[10:], range(10, 30))
    assert new.tolist() == [False] * 10 + [True] * 10
    assert same(joined([first, rest]), scorers[0](x))
    assert watch.repeated == 10


def test_steps_of_a_clock_that_was_set_back_are_left_out_and_counted(scorers):
    x, ids = series(30, 3), np.arange(30)
    ids[10:15] = ids[5:10]
    for pieces in (1, 6, 30):
        watch = Watch(scorers[0], gap=6)
        found = [watch.push(part, some) for part, some in zip(np.split(x, pieces), np.split(ids, pieces), strict=True)]
        assert np.concatenate([new for _, new in found]).tolist() == [True] * 10 + [False] * 5 + [True] * 15
        assert same(joined([verdict for verdict, _ in found]), scorers[0](np.delete(x, slice(10, 15), axis=0)))
        assert (watch.judged, watch.repeated, watch.stretches) == (25, 5, 1)


@pytest.mark.parametrize("pieces", [1, 5, 40])
def test_no_window_reaches_over_missing_steps(scorers, pieces):
    x, ids = series(40, 4), np.arange(40) * 10
    ids[25:] += 11
    for scorer in scorers:
        watch = Watch(scorer, gap=20)
        found = [
            watch.push(part, some)[0] for part, some in zip(np.split(x, pieces), np.split(ids, pieces), strict=True)
        ]
        assert same(joined(found), scorer([x[:25], x[25:]]))
        assert watch.stretches == 2
        whole = Watch(scorer, gap=21)
        whole.push(x, ids)
        assert whole.stretches == 1


def test_without_ids_steps_follow_each_other(scorers):
    watch, x = Watch(scorers[0]), series(20, 5)
    found = [watch.push(part)[0] for part in np.split(x, 4)]
    assert same(joined(found), scorers[0](x))
    assert watch.last == 19


@pytest.mark.parametrize(
    ("steps", "ids", "message"),
    [
        (np.full((1, CHANNELS), np.nan), [50], "NaN"),
        (np.zeros((1, CHANNELS + 1)), [50], "shape"),
        (np.zeros((2, CHANNELS)), [50], "one whole number of 64 bits a step"),
        (np.zeros((1, CHANNELS)), [50.5], "one whole number of 64 bits a step"),
        (np.zeros((1, CHANNELS)), ["50"], "one whole number of 64 bits a step"),
        (np.zeros((1, CHANNELS)), np.array([2**63], np.uint64), "one whole number of 64 bits a step"),
    ],
)
def test_what_cannot_be_judged_changes_nothing(scorers, tmp_path, steps, ids, message):
    watch = Watch(scorers[0])
    watch.push(series(20, 6))
    watch.save(tmp_path / "before")
    with pytest.raises(InputError, match=message):
        watch.push(steps, ids)
    watch.save(tmp_path / "after")
    assert (tmp_path / "before" / MANIFEST).read_bytes() == (tmp_path / "after" / MANIFEST).read_bytes()


def test_what_cannot_be_watched_is_refused(model):
    rng = np.random.default_rng(0)
    rows = Scorer.calibrate(MeanDistance().fit(rng.normal(size=(50, 3))), rng.normal(size=(50, 3)))
    late = Scorer.calibrate(model, series(600, 5), steps="mean")
    for scorer in (rows, late):
        with pytest.raises(InputError, match="judges each step"):
            Watch(scorer)
    with pytest.raises(ValueError, match="gap"):
        Watch(Scorer.calibrate(model, series(600, 5), steps="last"), gap=0)


def test_the_state_of_another_scorer_is_refused(scorers, tmp_path):
    Watch(scorers[0]).save(tmp_path)
    Watch.load(tmp_path, scorers[0])
    for other in scorers[1:]:
        with pytest.raises(CalibrationMismatchError, match="another scorer"):
            Watch.load(tmp_path, other)


def test_a_damaged_state_is_refused(scorers, tmp_path):
    watch = Watch(scorers[3])
    watch.push(series(60, 7))
    watch.save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for place in range(0, len(whole), 11):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises((ArtifactError, CalibrationMismatchError)):
                Watch.load(tmp_path, scorers[3])
        path.write_bytes(b"\x80\x04.")
        with pytest.raises((ArtifactCorruptError, ArtifactUnsafeError)):
            Watch.load(tmp_path, scorers[3])
        path.write_bytes(whole)
    with pytest.raises(ArtifactError, match="no artifact"):
        Watch.load(tmp_path / "nowhere", scorers[3])


@pytest.mark.parametrize(
    "change",
    [{"gap": 0}, {"gap": "1"}, {"last": 1.5}, {"judged": -1}, {"repeated": None}, {"stretches": True}],
    ids=str,
)
def test_a_state_that_says_nonsense_is_refused(scorers, tmp_path, change):
    Watch(scorers[0]).save(tmp_path)
    document = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_bytes(canonical_json(sealed({**document, **change})))
    with pytest.raises(ArtifactCorruptError):
        Watch.load(tmp_path, scorers[0])


def test_threads_that_share_a_watch_lose_no_step(scorers):
    watch, x, found = Watch(scorers[0]), series(400, 8), []

    def send():
        for place in range(0, 400, 10):  # each sends all of it
            verdict, new = watch.push(x[place : place + 10], range(place, place + 10))
            found.append((np.arange(place, place + 10)[new], verdict.score))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = np.concatenate([ids for ids, _ in found])
    assert len(set(numbers)) == len(numbers) == watch.judged
    assert watch.judged + watch.repeated == 4 * 400


KILLED = """
import os, sys, signal
import numpy as np
from deepad import Scorer
from deepad.scoring.watch import MANIFEST, Watch

scorer, state, x = Scorer.load(sys.argv[1]), sys.argv[2], np.load(sys.argv[3])
for name in ("replace", "fsync", "unlink"):
    for turn in range(1, 40):
        child = os.fork()
        if not child:  # judges on from where the state is, saving after each piece, until it is killed
            true, left = getattr(os, name), [turn]
            def last(*arguments, **options):
                left[0] -= 1
                return true(*arguments, **options) if left[0] else os.kill(os.getpid(), signal.SIGKILL)
            setattr(os, name, last)
            known = os.path.exists(os.path.join(state, MANIFEST))
            watch = Watch.load(state, scorer) if known else Watch(scorer)
            for place in range(0, len(x), 5):  # from the beginning, as a sender would that knows of nothing
                verdict, new = watch.push(x[place : place + 5], range(place, place + 5))
                if new.any():
                    with open(sys.argv[4], "ab") as out:
                        for number, score in zip(np.arange(place, place + 5)[new], verdict.score):
                            out.write(f"{number} {score.hex()}\\n".encode())
                    watch.save(state)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            print("done", name, turn)
            sys.exit()
"""


def test_killed_at_any_step_of_saving_it_goes_on_with_the_same_verdicts(scorers, tmp_path):
    scorer, x = scorers[3], series(200, 11)
    scorer.save(tmp_path / "scorer")
    np.save(tmp_path / "x.npy", x)
    paths = [str(tmp_path / name) for name in ("scorer", "state", "x.npy", "out")]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KILLED, *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("done")
    told = [line.split() for line in (tmp_path / "out").read_text().splitlines()]
    expected = [float(score).hex() for score in scorer(x).score]
    assert all(score == expected[int(number)] for number, score in told)
    assert {int(number) for number, _ in told} == set(range(200))  # at least once each, and twice only after a kill
    assert len(told) > 200
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "state").iterdir()) == ["state", MANIFEST]


def test_a_data_frame_is_refused_and_not_taken_by_position(scorers):
    frame = pa.table({"b": [1.0], "a": [2.0]})
    with pytest.raises(InputError, match=r"takes arrays \(n, C\)"):
        Watch(scorers[0]).push(frame)


def test_ids_may_have_64_bits(scorers):
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    watch = Watch(scorers[0])
    _, new = watch.push(series(3, 13), [least, 0, most])
    assert new.all()
    assert (watch.stretches, watch.last) == (3, most)
    assert not watch.push(series(1, 13), [most])[1].any()


class Fragile(PCAResidual):
    """Fails when it is told to."""

    fails = False

    def _score(self, x):
        if self.fails:
            raise MemoryError("no room")
        return super()._score(x)


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS.keys())
def test_what_fails_in_the_middle_can_be_sent_again(events):
    model = Fragile(2).fit(windows_of(series(300, 9), SIZE).copy())
    scorer = Scorer.calibrate(model, series(600, 5), steps="window", events=events)
    x, ids, watch = series(80, 14), np.arange(80), Watch(scorer)
    ids[60:] += 5
    first, _ = watch.push(x[:40], ids[:40])
    for part in (slice(40, 50), slice(40, 80)):  # in one stretch, and over two
        model.fails = True
        with pytest.raises(MemoryError):
            watch.push(x[part], ids[part])
        model.fails = False
    rest, new = watch.push(x[40:], ids[40:])
    assert new.all()
    assert same(joined([first, rest]), scorer([x[:60], x[60:]]))
    assert (watch.judged, watch.repeated, watch.stretches, watch.last) == (80, 0, 2, 84)


def forged(folder, scorer, change):
    """A saved state with other arrays, under good seals."""
    watch = Watch(scorer)
    watch.push(series(60, 7))
    watch.save(folder)
    document = json.loads((folder / MANIFEST).read_text())
    state = {**watch._stretch.to_state()}
    change(state)
    fields = {name: document[name] for name in ("format", "scorer", "gap", "last", "judged", "repeated", "stretches")}
    write_artifact(folder, MANIFEST, fields, {"state": state})


def moved(by, places=(0, 1, 2, 3)):
    def change(state):
        state["counts"] = state["counts"] + by * np.isin(np.arange(4), places)

    return change


@pytest.mark.parametrize(
    "change",
    [
        moved(2 * 10**8, (0, 1, 3)),
        moved(-60, (2,)),
        moved(1, (3,)),
        lambda state: state.update(more=np.ones(3)),
        lambda state: state.update(errors=state["errors"] > 0),
        lambda state: state.update(context=state["context"][:, :1]),
        lambda state: state.update(context=np.full_like(state["context"], np.inf)),
        lambda state: state.update(counts=state["counts"][:3]),
        lambda state: state.pop("errors"),
        lambda state: state.update({"transform0.window": np.full(20, np.nan)}),
        lambda state: state.pop("transform1.last"),
    ],
)
def test_a_state_whose_parts_do_not_belong_together_is_refused_at_once(scorers, tmp_path, change):
    with within(5):
        forged(tmp_path, scorers[3], change)
        with pytest.raises(ArtifactCorruptError):
            Watch.load(tmp_path, scorers[3])


@pytest.fixture(name="service")
def _service(scorers, tmp_path):
    """Start the script, for a scorer, with a state of its own."""
    scorers[0].save(tmp_path / "scorer")
    script = Path(__file__).parents[2] / "scripts" / "watch.py"
    command = [sys.executable, script, "--scorer", tmp_path / "scorer", "--state", tmp_path / "state", "--every", "7"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return lambda *more: subprocess.Popen([*map(str, command), *more], **pipes)


def told(lines):
    """What the script says of each id: (score, p-value, flag)."""
    rows = [line.strip().split(",") for line in lines]
    return {int(number): (float(score), float(p), flag) for number, score, p, flag in rows}


def test_the_script_saves_its_state_when_it_is_ended_and_goes_on(scorers, service):
    x = series(60, 12)
    lines = ["id,a,b\n", *(f"{number},{a!r},{b!r}\n" for number, (a, b) in enumerate(x.tolist())), "\n"]
    verdict = scorers[0](x)
    expected = {
        number: (float(verdict.score[number]), float(verdict.p_value[number]), str(int(verdict.flagged[number])))
        for number in range(SIZE - 1, 60)
    }
    process = service()
    process.stdin.write("".join(lines[:31]))
    process.stdin.flush()
    first = [process.stdout.readline() for _ in range(30 - SIZE + 1)]
    os.kill(process.pid, signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 0, error
    process = service()
    output, error = process.communicate("".join(lines))
    assert error == "60 rows judged, 30 seen before, 1 stretches\n"
    assert not told(first).keys() & told(output.splitlines()).keys()
    assert told(first) | told(output.splitlines()) == expected


def test_no_verdict_of_the_script_is_lost_when_its_reader_goes_away(scorers, service):
    x = series(60, 12)
    lines = [f"{number},{a!r},{b!r}\n" for number, (a, b) in enumerate(x.tolist())]
    process = service()
    process.stdin.write("".join(lines[:20]))
    process.stdin.flush()
    first = [process.stdout.readline() for _ in range(9)]
    process.stdout.close()
    with suppress(BrokenPipeError):
        process.stdin.write("".join(lines[20:]))
        process.stdin.close()
    process.wait()
    process.stderr.close()
    assert process.returncode != 0
    output, _ = service().communicate("".join(lines))
    assert (told(first) | told(output.splitlines())).keys() == set(range(SIZE - 1, 60))


def test_the_script_says_so_where_no_row_follows_another(scorers, service):
    lines = "".join(f"{10 * number},{a!r},{b!r}\n" for number, (a, b) in enumerate(series(20, 12).tolist()))
    output, error = service().communicate(lines)
    assert output == ""
    assert "give --gap" in error
