"""Tables as data: every way in, who learns from which rows, what is refused, and real files."""

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats
from test_data_contract import check_contract

from deepad import Scorer
from deepad.baselines import KNearestNeighbors
from deepad.data import Table
from deepad.data.tables import read_table
from deepad.errors import DataLeakError, InputError, InsufficientCalibrationError
from deepad.schema import TableSchema


def people(n=200, seed=0):
    """A labelled table; every 20th row is an anomaly."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "age": random.integers(18, 90, n),
            "income": random.lognormal(8, 1, n),
            "city": random.choice(["Bonn", "Kiel", "Ulm"], n),
            "label": (np.arange(n) % 20 == 19).astype(np.int64),
        }
    )


def write(table, path):
    {".csv": pa_csv.write_csv, ".parquet": pq.write_table}[path.suffix](table, path)
    return str(path)


def rows_of(split):
    return split.x[split.index]


# ---- ways in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_is_encoded_by_the_schema_of_its_training_rows(tmp_path, ending):
    data = Table(write(people(), tmp_path / f"people{ending}"), label="label")
    check_contract(data)
    assert data.title == "people"
    assert data.shape == (data.schema.size,) == (6,)
    assert data.schema.features[2:] == ("city=Bonn", "city=Kiel", "city=Ulm", "city=(unknown)")
    assert data.test_labels().sum() == 10
    samples = people().drop_columns(["label"])
    train = data.splits.train.index.numpy()
    assert data.schema == TableSchema.learn(samples, rows=train)
    assert torch.equal(rows_of(data.splits.train), torch.from_numpy(data.schema.encode(samples)[train].astype("f4")))


def test_a_file_an_npz_and_several_files_hold_the_same(tmp_path):
    numbers = people().select(["age", "income", "label"])
    x = np.stack([numbers["age"].to_numpy(), numbers["income"].to_numpy()], axis=1)
    np.savez(tmp_path / "people.npz", X=x, y=numbers["label"].to_numpy(), other=np.zeros((3, 3, 3)))
    parts = [write(numbers.slice(start, 70), tmp_path / f"part{start:03}.parquet") for start in (0, 70, 140)]
    ways = [
        Table(str(tmp_path / "people.npz"), label="y"),
        Table(parts, label="label"),
        Table(str(tmp_path), label="label"),
        Table(write(numbers, tmp_path.parent / f"{tmp_path.name}.csv"), label="label"),
    ]
    assert ways[1].title == "part000 and 2 more"
    for data in ways:
        assert torch.equal(data.splits.test.x, ways[0].splits.test.x)
        assert np.array_equal(data.test_labels(), ways[0].test_labels())
    assert ways[0].schema.features == ("x0", "x1")


def test_an_npz_without_label_has_no_column_of_labels(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.arange(100.0).reshape(50, 2), y=np.zeros(50))
    assert Table(str(tmp_path / "a.npz")).schema.features == ("x0", "x1")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_separator_of_a_csv_file_is_found(tmp_path, mark):
    path = tmp_path / "people.csv"
    pa_csv.write_csv(people(), path, pa_csv.WriteOptions(delimiter=mark))
    assert read_table(path).equals(read_table(tmp_path / write(people(), tmp_path / "plain.csv")))


def test_relative_paths_are_also_found_below_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "sets").mkdir()
    write(people(), tmp_path / "sets" / "people.csv")
    monkeypatch.setenv("DEEPAD_DATA", str(tmp_path))
    assert len(Table("sets/people.csv", label="label").splits.test)
    with pytest.raises(InputError, match=r"no file or folder at sets/none.csv or at .*none.csv"):
        _ = Table("sets/none.csv").splits


@pytest.mark.parametrize("name", ["transactions", "agents", "sessions"])
def test_generated_tables_have_labels_and_no_telltale_column(name):
    data = Table(generator=name, generator_args={"rows": 600, "rate": 0.05})
    check_contract(data)
    assert data.title == name
    assert data.test_labels().sum() == 30
    assert not [feature for feature in data.schema.features if feature.startswith(("label", "pattern"))]
    assert data.describe() == Table(generator=name, generator_args={"rows": 600, "rate": 0.05}).describe()
    other = Table(generator=name, generator_args={"rows": 600, "rate": 0.05}, seed=1)
    assert other.describe()["train"]["digest"] != data.describe()["train"]["digest"]


def test_generated_tables_may_have_no_anomaly():
    data = Table(generator="transactions", generator_args={"rows": 500, "rate": 0.0})
    assert data.test_labels().sum() == 0


# ---- who goes where ------------------------------------------------------------------------------------------------


def test_every_row_is_in_one_split_and_every_anomaly_in_test(tmp_path):
    data = Table(
        write(people(), tmp_path / "people.csv"), label="label", val_size=20, calibration_size=0.25, test_size=30
    )
    splits = data.splits
    assert [len(rows) for rows in vars(splits).values()] == [190 - 20 - 48 - 30, 20, 48, 30 + 10]
    everyone = torch.cat([rows.index for rows in vars(splits).values()])
    assert sorted(everyone.tolist()) == list(range(200))
    assert np.array_equal(splits.test.index[data.test_labels() == 1].numpy(), np.arange(19, 200, 20))


def test_in_order_of_rows_later_normal_rows_are_tested(tmp_path):
    data = Table(write(people(), tmp_path / "people.csv"), label="label", order="rows")
    splits = data.splits
    normal = splits.test.index[data.test_labels() == 0]
    parts = [splits.train.index, splits.val.index, splits.calibration.index, normal]
    assert torch.cat(parts).tolist() == [row for row in range(200) if row % 20 != 19]
    assert [len(part) for part in parts] == [95, 19, 38, 38]


@pytest.mark.parametrize(("test_size", "n_test"), [(0.5, 95), (0.2, 38), (30, 30), (0.001, 0)])
def test_the_last_normal_rows_are_tested_and_the_others_are_dealt_at_random(tmp_path, test_size, n_test):
    path = write(people(), tmp_path / "people.csv")
    data, other = (
        Table(path, label="label", order="test-last", test_size=test_size, calibration_size=0.25, seed=seed)
        for seed in (0, 1)
    )
    check_contract(data)
    splits, normal = data.splits, np.flatnonzero(np.arange(200) % 20 != 19)
    early = normal[: 190 - n_test]
    assert splits.test.index[data.test_labels() == 0].tolist() == normal[190 - n_test :].tolist()
    assert data.test_labels().sum() == 10
    parts = [splits.train.index, splits.val.index, splits.calibration.index]
    assert sorted(torch.cat(parts).tolist()) == early.tolist()
    assert [len(part) for part in parts[1:]] == [round(0.1 * len(early)), round(0.25 * len(early))]
    assert torch.equal(splits.test.index, other.splits.test.index)
    assert not torch.equal(splits.calibration.index, other.splits.calibration.index)


@pytest.mark.parametrize(("test_size", "message"), [(190, "out of 0"), (500, "out of 0"), (189, "out of 1")])
def test_a_test_split_that_leaves_nothing_before_it_is_refused(tmp_path, test_size, message):
    data = Table(write(people(), tmp_path / "a.csv"), label="label", order="test-last", test_size=test_size, val_size=1)
    with pytest.raises(InsufficientCalibrationError, match=message):
        _ = data.splits


@pytest.mark.parametrize("test_size", [0, 1.0, -3, True, 1.5])
def test_an_impossible_size_of_the_last_rows_is_refused(tmp_path, test_size):
    data = Table(write(people(), tmp_path / "a.csv"), label="label", order="test-last", test_size=test_size)
    with pytest.raises(ValueError, match="a split size is"):
        _ = data.splits


def test_of_more_rows_than_are_wanted_a_random_sample_is_used(tmp_path):
    path = write(people(), tmp_path / "people.csv")

    def used(**how):
        data = Table(path, label="label", **how)
        check_contract(data)
        return data, np.sort(data.splits.test.x.numpy(), axis=0)

    data, some = used(max_rows=120)
    _, again = used(max_rows=120)
    _, other = used(max_rows=120, seed=1)
    whole, everything = used()
    assert len(data.splits.test.x) == sum(len(rows) for rows in vars(data.splits).values()) == 120
    assert np.isin(some[:, :2], everything[:, :2]).all()
    assert np.array_equal(some, again)
    assert not np.array_equal(some, other)
    for enough in (200, 201):
        data, all_rows = used(max_rows=enough)
        assert np.array_equal(all_rows, everything)
        assert data.describe() == whole.describe()


@pytest.mark.parametrize("max_rows", [0, -1, 1.5, True, "100"])
def test_an_impossible_number_of_rows_is_refused(max_rows):
    with pytest.raises(ValueError, match="max_rows must be a whole number of at least 1, got"):
        Table("a.csv", max_rows=max_rows)


# ---- rows that recur -----------------------------------------------------------------------------------------------


def resting(path, n=300, share=1 / 3):
    """A file of numbers, a share of whose rows are the same, far from all others."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    x[rng.permutation(n)[: round(share * n)]] = 30.0
    np.savez(path, X=x)
    return str(path)


def test_a_row_that_is_a_third_of_a_table_keeps_the_promised_false_alarm_rate_exactly(tmp_path):
    """Over re-splits the alarms follow the law of ranks. Were that row dropped from training, it would be what stands
    out most of all, and its ties would silence the alarms."""
    path, alpha, n, m, replicas = resting(tmp_path / "a.npz"), 0.1, 59, 100, 300
    counts = np.empty(replicas, int)
    for seed in range(replicas):
        data = Table(path, calibration_size=n, test_size=m, val_size=20, seed=seed)
        model = KNearestNeighbors(3).fit(rows_of(data.splits.train).numpy())
        scorer = Scorer.calibrate(model, data.calibration_dataloader(), alpha=alpha)
        counts[seed] = scorer(data.test_dataloader()).flagged.sum()
        assert data.dropped == 0
    law = stats.betabinom(m, 6, 54)
    edges = np.unique(law.ppf(np.arange(1, 8) / 8))
    expected = np.diff(np.concatenate([[0], law.cdf(edges), [1]]))
    cells = np.bincount(np.searchsorted(edges, counts), minlength=len(expected))
    assert stats.chisquare(cells, replicas * expected).pvalue > 1e-5
    assert abs(counts.mean() / m - alpha) <= 4.5 * counts.std() / m / np.sqrt(replicas)


def test_a_table_that_was_copied_is_refused_all_the_same(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 3))
    np.savez(tmp_path / "a.npz", X=np.tile(x, (20, 1)))
    with pytest.raises(DataLeakError, match="is also a calibration or test row: remove duplicates first"):
        _ = Table(str(tmp_path / "a.npz")).splits


def test_without_labels_all_rows_are_normal(tmp_path):
    data = Table(write(people().drop_columns(["label"]), tmp_path / "people.csv"))
    check_contract(data)
    assert data.test_labels().tolist() == [0] * 40


def test_a_category_that_no_training_row_has_is_unknown(tmp_path):
    table = people()
    cities = table["city"].to_pylist()
    cities[19] = "Rome"  # an anomaly
    path = write(table.set_column(2, "city", [cities]), tmp_path / "people.csv")
    data = Table(path, label="label")
    unknown = data.schema.features.index("city=(unknown)")
    x = data.splits.test.x
    assert x[19, unknown] == 1
    assert x[:, unknown].sum() == 1


def test_missing_values_follow_the_policy(tmp_path):
    table = people()
    ages = [None if row == 19 else float(age) for row, age in enumerate(table["age"].to_pylist())]
    path = write(table.set_column(0, "age", [ages]), tmp_path / "people.csv")
    with pytest.raises(InputError, match=r"'age' has 1 missing values \(first at row 19\).*missing='median'"):
        _ = Table(path, label="label").splits
    data = Table(path, label="label", missing="median")
    x = rows_of(data.splits.train)
    assert data.splits.test.x[19, :2].tolist() == [x[:, 0].median(), 1]
    assert data.splits.test.x[:, 1].sum() == 1


def test_columns_are_left_out_or_taken_as_categories(tmp_path):
    path = write(people(), tmp_path / "people.csv")
    data = Table(path, label="label", ignore="income", categorical=["age"], max_categories=100)
    assert {data.schema.columns[column].name for column in data.schema.columns_of_features} == {"age", "city"}
    assert "age=18" in data.schema.features


@pytest.mark.parametrize(
    ("labels", "anomalous"),
    [
        ([0, 1], 1),
        ([0, 1], "1"),
        ([0.0, 1.0], (1,)),
        ([False, True], 1),
        ([False, True], "true"),
        (["ok", "fraud"], "fraud"),
        (["0", "1"], [1]),
        ([1, -1], [-1]),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_labels_of_any_type_say_what_is_anomalous(tmp_path, labels, anomalous, ending):
    table = people()
    values = [labels[int(label)] for label in table["label"].to_pylist()]
    path = write(table.set_column(3, "label", [values]), tmp_path / f"people{ending}")
    assert Table(path, label="label", anomalous=anomalous).test_labels().sum() == 10


def test_several_labels_may_mean_anomaly(tmp_path):
    table = people()
    values = np.where(table["label"].to_numpy() == 1, np.where(np.arange(200) < 100, "fraud", "theft"), "ok")
    path = write(table.set_column(3, "label", [values]), tmp_path / "people.csv")
    assert Table(path, label="label", anomalous=["fraud", "theft"]).test_labels().sum() == 10
    with pytest.raises(InputError, match="no label is arson: the values of 'label' are fraud, ok, theft"):
        _ = Table(path, label="label", anomalous=["fraud", "arson"]).splits


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [{}, {"path": "a.csv", "generator": "agents"}, {"path": "a.csv", "generator_args": {"rows": 3}}],
)
def test_one_source_at_a_time(arguments):
    with pytest.raises(ValueError, match="either path or generator"):
        Table(**arguments)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order must be random, rows or test-last, got 'time'"):
        Table("a.csv", order="time")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "fraud"}, "no column 'fraud' for labels: there are age, income, city, label"),
        ({"label": "label", "anomalous": 2}, "no label is 2: the values of 'label' are 0, 1"),
        ({"label": "label", "anomalous": ()}, "no label is given as anomalous"),
        ({"label": "label", "anomalous": (0, 1)}, "all 200 rows are anomalies"),
        ({"ignore": ["size", "age"]}, "no columns size to ignore: there are age, income, city, label"),
        ({"categorical": ["size"]}, "no columns size to take as categories"),
        ({"categorical": ["income"]}, "'income' has .* distinct values .* drop it"),
        ({"ignore": ["age", "income", "city", "label"]}, "needs rows and columns"),
    ],
)
def test_columns_and_labels_that_are_not_there_are_refused(tmp_path, arguments, message):
    path = write(people(), tmp_path / "people.csv")
    with pytest.raises(InputError, match=message):
        _ = Table(path, **arguments).splits


def test_missing_labels_are_refused(tmp_path):
    labels = [None if row in (3, 5) else 0.0 for row in range(200)]
    path = write(people().set_column(3, "label", [labels]), tmp_path / "people.csv")
    with pytest.raises(InputError, match=r"'label' has 2 labels missing \(first at row 3\)"):
        _ = Table(path, label="label").splits


def test_more_rows_than_there_are_cannot_be_dealt(tmp_path):
    path = write(people(), tmp_path / "people.csv")
    with pytest.raises(InsufficientCalibrationError, match="out of 190"):
        _ = Table(path, label="label", calibration_size=190).splits


def test_values_too_large_for_float32_are_refused_by_column(tmp_path):
    income = np.where(np.arange(200) == 7, 1e300, 1.0)
    path = write(people().set_column(1, "income", [income]), tmp_path / "people.csv")
    with pytest.raises(InputError, match=r"'income' holds values too large for float32 \(first at row 7\)"):
        _ = Table(path, label="label").splits


def test_files_with_other_columns_are_refused(tmp_path):
    first = write(people(), tmp_path / "a.csv")
    second = write(people().rename_columns(["age", "income", "town", "label"]), tmp_path / "b.csv")
    with pytest.raises(
        InputError, match=r"b.csv has the columns age, income, town, label, .*a.csv has age, income, city"
    ):
        _ = Table([first, second]).splits
    whole = write(people(), tmp_path / "a.parquet")
    third = write(people().set_column(1, "income", [["high"] * 200]), tmp_path / "c.parquet")
    with pytest.raises(InputError, match="a column has other types in one file than in another"):
        _ = Table([whole, third]).splits


def test_a_column_that_is_text_in_one_file_is_read_as_written_in_all(tmp_path):
    codes = ["01", "02", "3.0", ""] * 50
    for name, last in (("a", "7"), ("b", "A1")):
        rows = "".join(f"{code},{row}\n" for row, code in enumerate([*codes, last]))
        (tmp_path / f"{name}.csv").write_text("code,x\n" + rows)
    for path in (tmp_path / "b.csv", tmp_path):
        [code, _] = Table(str(path)).schema.columns
        assert {"(missing)", "01", "02", "3"} <= {*code.categories} <= {"(missing)", "01", "02", "3", "7", "A1"}


def test_declared_categories_keep_their_spelling(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("code,x\n" + "".join(f"{code},{row}\n" for row, code in enumerate(["01", "1", "2.0"] * 40)))
    data = Table(str(path), categorical="code")
    assert data.schema.columns[0].categories == ("01", "1", "2")


def test_whole_numbers_of_a_parquet_file_are_the_categories_of_text_in_another(tmp_path):
    table = people()
    first = write(table, tmp_path / "a.parquet")
    second = write(table, tmp_path / "b.csv")
    data = Table([first, second], label="label", categorical=["age"], max_categories=100)
    x = data.splits.test.x
    assert torch.equal(x[:200], x[200:])


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(InputError, match=r"no file at .*none\.csv"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x\n1\n", "is no table: give .csv, .parquet, .npz or .npy"),
        ("a.csv", b"", "cannot read"),
        ("a.csv", b"a,b\n", "holds no rows"),
        ("a.csv", b"a,b\n1,2\n3\n", "cannot read"),
        ("a.csv", b"a,a\n1,2\n", "columns a occur more than once"),
        ("a.parquet", b"PAR1", "cannot read"),
        ("a.npz", b"PK", "cannot read"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        _ = Table(str(tmp_path / name)).splits
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((9, 2))}, "holds no array 'y' for labels, only X"),
        ({"X": np.zeros((9, 2)), "y": np.zeros(8)}, "the labels must be one value for each"),
        ({"X": np.zeros(9), "y": np.zeros(9)}, "a table has numbers of shape"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "a table has numbers of shape"),
        ({"X": np.full((9, 2), "a"), "y": np.zeros(9)}, "a table has numbers of shape"),
        ({"X": np.full((9, 2), None), "y": np.zeros(9)}, "holds no numbers or text in 'X.npy', but objects"),
    ],
)
def test_arrays_that_are_no_table_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        _ = Table(str(tmp_path / "a.npz"), label="y").splits


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no tables \(.csv, .parquet\)"):
        _ = Table(str(tmp_path)).splits
    with pytest.raises(InputError, match="empty list of paths"):
        _ = Table([]).splits


# ---- real files ----------------------------------------------------------------------------------------------------


def test_all_sets_of_adbench_load(deepad_data):
    for path in sorted((deepad_data / "adbench").glob("*.npz")):
        with np.load(path) as arrays:
            n, anomalies = arrays["X"].shape, int(arrays["y"].sum())
        data = Table(f"adbench/{path.name}", label="y")
        assert data.shape == n[1:], path
        assert data.test_labels().sum() == anomalies, path
        assert sum(len(rows) for rows in vars(data.splits).values()) + data.dropped == n[0], path


@pytest.mark.parametrize("name", ["25_musk", "29_Pima", "45_wine"])
def test_real_tables_without_copies_keep_the_contract(deepad_data, name):
    check_contract(Table(f"adbench/{name}.npz", label="y"))
