"""What a table becomes: each column against a naive twin, every refusal, and schemas from files others have written."""

import copy
import json
import math
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.schema import Column, TableSchema, as_frame

exhaustive = settings(derandomize=True, deadline=None, max_examples=100)


def payments():
    return pa.table(
        {
            "amount": [3.5, 20.0, 7.25, 100.0],
            "kind": ["card", "cash", "card", "wire"],
            "count": pa.array([1, 2, 3, 4], pa.int32()),
            "abroad": [False, True, False, False],
        }
    )


def replaced(table, name, values):
    """The table with other values in one column."""
    return table.set_column(table.column_names.index(name), name, pa.chunked_array([pa.array(values)]))


# ---- what columns become -------------------------------------------------------------------------------------------


def test_numbers_stay_and_categories_become_one_feature_a_value():
    schema = TableSchema.learn(payments())
    assert schema.features == (
        "amount",
        "kind=card",
        "kind=cash",
        "kind=wire",
        "kind=(unknown)",
        "count",
        "abroad=false",
        "abroad=true",
        "abroad=(unknown)",
    )
    assert schema.size == 9
    assert schema.columns_of_features == (0, 1, 1, 1, 1, 2, 3, 3, 3)
    assert schema.encode(payments()).tolist() == [
        [3.5, 1, 0, 0, 0, 1, 1, 0, 0],
        [20, 0, 1, 0, 0, 2, 0, 1, 0],
        [7.25, 1, 0, 0, 0, 3, 1, 0, 0],
        [100, 0, 0, 1, 0, 4, 1, 0, 0],
    ]


def naive(rows, training, *, missing):
    """Encoded rows of (number or None, text or None), one value at a time."""
    known = sorted({word or "(missing)" for _, word in training})
    numbers = [number for number, _ in training if number is not None]
    encoded = []
    for number, word in rows:
        features = [number]
        if missing == "median":
            features = [float(np.median(numbers)), 1.0] if number is None else [number, 0.0]
        word = word or "(missing)"
        features += [float(word == value) for value in known] + [float(word not in known)]
        encoded.append(features)
    return encoded


@pytest.mark.parametrize(
    ("learned", "given", "same"),
    [
        (["3", "A1"], pa.array([3.0]), True),  # as pandas writes whole numbers beside an empty cell
        (["3", "A1"], pa.array(["3.0"]), True),
        (["3.0", "A1"], pa.array([3]), True),
        ([3, 4], pa.array(["3.00"]), True),
        ([True, False], pa.array(["TRUE"]), True),
        (["True", "maybe"], pa.array([True]), True),
        (["03", "A1"], pa.array(["3"]), False),
        (["1.10", "A1"], pa.array(["1.1"]), False),
        (["", "a"], pa.array([None], pa.string()), True),
        ([None, "a"], pa.array([""]), True),
        (["1e3", "a"], pa.array(["1000"]), False),
        (["9007199254740993.0", "a"], pa.array(["9007199254740993"]), True),
    ],
)
def test_a_category_is_what_is_written_whatever_type_it_arrives_in(learned, given, same):
    schema = TableSchema.learn(pa.table({"c": learned}), categorical=["c"])
    own = schema.encode(pa.table({"c": learned}))[0].tolist()
    assert (schema.encode(pa.table({"c": given}))[0].tolist() == own) is same


@pytest.mark.parametrize("missing", ["refuse", "median"])
@exhaustive
@given(data=st.data())
def test_encoding_is_that_of_one_value_at_a_time(missing, data):
    numbers = st.floats(-1e6, 1e6)
    if missing == "median":
        numbers = st.one_of(numbers, st.none())
    row = st.tuples(numbers, st.one_of(st.text(max_size=2), st.none()))
    rows = [(1.0, "a"), *data.draw(st.lists(row, max_size=12))]
    n = data.draw(st.integers(1, len(rows)))
    table = pa.table(
        {"x": pa.array([x for x, _ in rows], pa.float64()), "c": pa.array([c for _, c in rows], pa.string())}
    )
    schema = TableSchema.learn(table, rows=np.arange(n), missing=missing)
    mask = np.arange(len(rows)) < n
    assert schema == TableSchema.learn(table, rows=mask, missing=missing)
    expected = naive(rows, rows[:n], missing=missing)
    assert schema.encode(table).tolist() == expected
    chunked = pa.concat_tables([table.slice(start, 3) for start in range(0, len(rows), 3)])
    assert schema.encode(chunked).tolist() == expected
    assert TableSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_a_schema_knows_nothing_of_rows_that_do_not_train():
    table = pa.table({"x": [1.0, 2.0, None, 9.0], "c": ["a", "b", None, "z"]})
    schema = TableSchema.learn(table, rows=[0, 1], missing="median")
    assert schema.columns == (Column("x", "number", fill=1.5), Column("c", "category", ("a", "b")))


def test_a_value_never_seen_has_a_feature_of_its_own():
    schema = TableSchema.learn(payments())
    encoded = schema.encode(replaced(payments(), "kind", ["cheque", "cash", None, "(unknown)"]))
    assert encoded[:, 1:5].tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]


def test_a_missing_category_is_a_category_if_training_rows_had_it():
    table = pa.table({"c": ["a", None, "a"]})
    schema = TableSchema.learn(table)
    assert schema.features == ("c=(missing)", "c=a", "c=(unknown)")
    assert schema.encode(table).tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    nothing_at_all = pa.table({"c": pa.nulls(2)})
    assert schema.encode(nothing_at_all).tolist() == [[1, 0, 0], [1, 0, 0]]


def test_missing_numbers_are_filled_by_the_training_median_and_marked():
    table = pa.table({"x": [1.0, 3.0, None, 8.0, math.nan]})
    schema = TableSchema.learn(table, missing="median")
    assert schema.features == ("x", "x is missing")
    assert schema.encode(table).tolist() == [[1, 0], [3, 0], [3, 1], [8, 0], [3, 1]]


def test_codes_are_categories_where_asked_and_written_the_same_in_any_type():
    table = pa.table({"code": pa.array([3, 7, 3], pa.int64())})
    schema = TableSchema.learn(table, categorical=["code"])
    assert schema.columns == (Column("code", "category", ("3", "7")),)
    same = [[3.0, 7.0, None], ["3", "7", None], pa.array([3, 7, None], pa.int8()), pa.array([3, 7, None], pa.float32())]
    for values in same:
        assert schema.encode(pa.table({"code": values})).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert TableSchema.learn(pa.table({"c": [0.5, 1e300, -0.0]}), categorical=["c"]).columns[0].categories == (
        "0",
        "0.5",
        "1e+300",
    )


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_is_a_category_however_it_is_stored(kind):
    table = pa.table({"c": pa.array(["a", "b", None], pa.string()).cast(kind)})
    schema = TableSchema.learn(table)
    assert schema.columns[0].categories == ("(missing)", "a", "b")
    assert schema.encode(table).argmax(1).tolist() == [1, 2, 0]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(5, 2)])
def test_numbers_are_numbers_however_they_are_stored(kind):
    values = [1, 2, None]
    values = np.array([1, 2], np.float16) if kind == pa.float16() else values
    schema = TableSchema.learn(pa.table({"x": pa.array(values, kind)}), missing="median")
    assert schema.columns == (Column("x", "number", fill=1.5),)
    assert schema.encode(pa.table({"x": pa.array(values, kind)}))[:2].tolist() == [[1, 0], [2, 0]]


def test_no_rows_become_no_rows():
    schema = TableSchema.learn(payments())
    assert schema.encode(payments().slice(0, 0)).shape == (0, 9)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["kind", "count"]), "lacks the columns kind, count; the model takes amount, kind"),
        (lambda t: t.append_column("new", [[1, 2, 3, 4]]), "has the columns new, which the model does not know: drop"),
        (
            lambda t: t.rename_columns(["amount", "sort", "count", "abroad"]),
            "lacks the columns kind and has the columns sort",
        ),
        (lambda t: t.select(["amount", "count", "kind", "abroad"]), "another order .*column 1 is 'count', was 'kind'"),
        (lambda t: replaced(t, "amount", ["3.5", "20", "7", "1"]), "'amount' holds text, numbers were learned"),
        (
            lambda t: replaced(t, "count", [True, True, False, True]),
            "'count' holds true and false, numbers were learned",
        ),
        (
            lambda t: replaced(t, "amount", [1.0, None, math.nan, 2.0]),
            r"has 2 missing values \(first at row 101\): fill",
        ),
        (lambda t: replaced(t, "amount", [1.0, 2.0, math.inf, 2.0]), r"has 1 infinite values \(first at row 102\)"),
        (lambda t: replaced(t, "count", [1, 2, 3, 2**53 + 1]), r"1 whole numbers beyond 2\*\*53 \(first at row 103\)"),
        (
            lambda t: replaced(t, "count", [-(2**60), 2, 3, None]),
            r"1 whole numbers beyond 2\*\*53 \(first at row 100\)",
        ),
        (
            lambda t: replaced(t, "kind", [datetime(2024, 1, 1)] * 4),
            "'kind' holds dates or times: turn it into numbers",
        ),
        (lambda t: replaced(t, "kind", [[1], [2], [3], [4]]), "'kind' holds values of type list"),
        (lambda _: np.zeros((4, 4)), "got ndarray where a table is taken"),
        (lambda _: None, "got NoneType where a table is taken"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_what_does(change, message):
    schema = TableSchema.learn(payments())
    with pytest.raises(InputError, match=message):
        schema.encode(change(payments()), first=100)


def test_a_name_with_braces_is_only_a_name():
    with pytest.raises(InputError, match=r"'\{0\}%s' has 1 missing"):
        TableSchema.learn(pa.table({"{0}%s": [1.0, 2.0]})).encode(pa.table({"{0}%s": [None, 2.0]}))


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"c": [str(i) for i in range(65)]}, {}, "'c' has 65 distinct values .* max_categories=64 .* drop it"),
        ({"c": ["a", "b", "c"]}, {"max_categories": 2}, "'c' has 3 distinct values"),
        ({"t": [datetime(2024, 1, 1)]}, {}, "'t' holds dates or times"),
        ({"t": [datetime(2024, 1, 1)]}, {"categorical": ["t"]}, "'t' holds dates or times"),
        ({"b": [b"raw"]}, {}, "'b' holds values of type binary"),
        ({"x": [None, math.nan]}, {}, "'x' has no values"),
        ({"x": pa.nulls(2)}, {"missing": "median"}, "'x' has no values"),
        ({"c": pa.array([None, None], pa.string())}, {}, "'c' has no values"),
        ({"x": [1.0]}, {"categorical": ["y", "x"]}, "no columns y to take as categories: there are x"),
        ({"x": [1.0]}, {"rows": []}, "needs rows and columns"),
        ({}, {}, "needs rows and columns"),
        ({"x": [1.0]}, {"missing": "mean"}, "missing='refuse' or 'median'"),
        ({"x": [1.0]}, {"max_categories": 0}, "max_categories >= 1"),
    ],
)
def test_what_cannot_be_learned_is_refused(columns, arguments, message):
    if "rows" in arguments:
        arguments = {"rows": np.array([], np.int64)}
    with pytest.raises(ValueError, match=message):
        TableSchema.learn(pa.table(columns), **arguments)


# ---- schemas from files --------------------------------------------------------------------------------------------

GOOD = TableSchema(
    (Column("x", "number", fill=2.0), Column("c", "category", ("a", "b")), Column("y", "number"))
).to_dict()


def test_a_schema_is_plain_values():
    assert json.loads(json.dumps(GOOD)) == GOOD
    assert GOOD == {
        "kind": "table",
        "columns": [
            {"name": "x", "kind": "number", "categories": [], "fill": 2.0},
            {"name": "c", "kind": "category", "categories": ["a", "b"], "fill": None},
            {"name": "y", "kind": "number", "categories": [], "fill": None},
        ],
    }
    whole = copy.deepcopy(GOOD)
    whole["columns"][0]["fill"] = 2
    assert TableSchema.from_dict(whole) == TableSchema.from_dict(GOOD)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), None),
        ((), []),
        ((), "table"),
        (("kind",), "series"),
        (("kind",), None),
        (("extra",), 1),
        (("columns",), []),
        (("columns",), {}),
        (("columns",), "ab"),
        (("columns",), [1]),
        (("columns",), [[]]),
        (("columns", 0, "extra"), 1),
        (("columns", 0, "name"), 1),
        (("columns", 0, "name"), None),
        (("columns", 0, "name"), "c"),
        (("columns", 0, "name"), "\ud800"),
        (("columns", 0, "kind"), "category"),
        (("columns", 0, "kind"), ["number"]),
        (("columns", 0, "kind"), "date"),
        (("columns", 0, "fill"), "2"),
        (("columns", 0, "fill"), True),
        (("columns", 0, "fill"), math.nan),
        (("columns", 0, "fill"), math.inf),
        (("columns", 0, "fill"), 10**400),
        (("columns", 0, "categories"), ["a"]),
        (("columns", 1, "categories"), []),
        (("columns", 1, "categories"), "ab"),
        (("columns", 1, "categories"), None),
        (("columns", 1, "categories"), ["a", "a"]),
        (("columns", 1, "categories"), ["a", 1]),
        (("columns", 1, "categories"), ["a", ["b"]]),
        (("columns", 1, "categories"), ["a", "(unknown)"]),
        (("columns", 1, "categories"), [str(i) for i in range(1 << 20)]),
        (("columns", 1, "fill"), 0.0),
    ],
)
def test_a_schema_that_was_tampered_with_is_refused(path, value):
    document = copy.deepcopy(GOOD)
    if path:
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    else:
        document = value
    with pytest.raises(ValueError):  # noqa: PT011
        TableSchema.from_dict(document)


@pytest.mark.parametrize("key", ["kind", "columns"])
def test_a_schema_that_lacks_something_is_refused(key):
    document = copy.deepcopy(GOOD)
    del document[key]
    with pytest.raises(ValueError, match="does not describe a table"):
        TableSchema.from_dict(document)
    document = copy.deepcopy(GOOD)
    del document["columns"][0]["fill"]
    with pytest.raises(ValueError, match="and nothing else"):
        TableSchema.from_dict(document)


plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["table", "number", "category", "x"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["kind", "columns", "name", "categories", "fill"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@exhaustive
@given(document=plain)
def test_anything_else_is_refused_as_a_value(document):
    try:
        schema = TableSchema.from_dict(document)
    except ValueError:
        return
    assert TableSchema.from_dict(schema.to_dict()) == schema


# ---- data frames ---------------------------------------------------------------------------------------------------


def test_frames_of_arrow_are_taken_as_they_are():
    table = payments()
    assert as_frame(table) is table
    assert as_frame(table.to_batches()[0]).equals(table)
    assert as_frame(pa.RecordBatchReader.from_batches(table.schema, table.to_batches())).equals(table)


class Exchanged:
    """A frame that offers nothing but the exchange protocol of data frames."""

    columns = ()

    def __init__(self, table):
        self.table = table

    def __dataframe__(self, **options):
        return self.table.__dataframe__(**options)


def test_frames_of_the_exchange_protocol_are_read():
    assert as_frame(Exchanged(payments().drop_columns(["abroad"]))).column_names == ["amount", "kind", "count"]


@pytest.mark.parametrize(
    "x", [None, 3, "text", [1], {"a": [1]}, np.zeros((2, 2)), pa.array([1]), pa.chunked_array([[1]])]
)
def test_what_is_no_frame_is_none(x):
    assert as_frame(x) is None


def test_arrow_columns_of_one_name_are_refused():
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(InputError, match="columns a occur more than once"):
        as_frame(table)


def test_pandas_frames_are_read_without_their_index():
    pd = pytest.importorskip("pandas")
    frame = payments().to_pandas()
    schema = TableSchema.learn(payments())
    assert np.array_equal(schema.encode(frame.set_index(frame.index + 50)), schema.encode(payments()))
    frame["kind"] = pd.Categorical(frame["kind"])
    assert TableSchema.learn(frame) == schema
    assert as_frame(frame["kind"]) is None


def test_missing_values_of_pandas_are_missing():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "real": [1.0, 2.0, np.nan],
            "text": ["a", None, pd.NA],
            "truth": pd.array([True, None, False], dtype="boolean"),
        }
    )
    schema = TableSchema.learn(frame, missing="median")
    assert [column.fill for column in schema.columns] == [2.0, 1.5, None, None]
    assert schema.columns[2].categories == ("(missing)", "a")
    assert schema.columns[3].categories == ("(missing)", "false", "true")
    strict = TableSchema.learn(frame.dropna())
    with pytest.raises(InputError, match=r"'whole' has 1 missing values \(first at row 1\)"):
        strict.encode(frame)


def test_pandas_frames_that_are_no_tables_are_refused():
    pd = pytest.importorskip("pandas")
    for columns, message in (([0, 1], "named by text, got 0, 1"), (["a", "a"], "columns a occur more than once")):
        with pytest.raises(InputError, match=message):
            as_frame(pd.DataFrame([[1, 2]], columns=columns))
    with pytest.raises(InputError, match=r"Conversion failed for column a with type object.*one type") as caught:
        as_frame(pd.DataFrame({"a": ["secret", 1]}))
    assert "secret" not in str(caught.value)


def test_polars_frames_are_read():
    pl = pytest.importorskip("polars")
    schema = TableSchema.learn(payments())
    assert np.array_equal(schema.encode(pl.from_arrow(payments())), schema.encode(payments()))
