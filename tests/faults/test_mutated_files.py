"""Files of every kind that somebody or something has changed: refused in one line, or read, at a price in proportion.

Each mutation is judged by `bounded`: a second of work and memory in proportion to the file, native libraries included.
"""

import gzip
import io
import os
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from budget import bounded
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated_bytes, mutated_file, mutated_scorer, read_files, sealed_files, write_files
from PIL import Image, PngImagePlugin
from seeds import save_seeds
from trial import outcome, require_one_line

from deepad import Scorer
from deepad.comparison.spec import read_yaml
from deepad.data import tables
from deepad.data.arrays import BATCH, COLUMN, HELD, SLICE
from deepad.data.files import read_labels, read_samples
from deepad.data.recordings import Reader, from_files
from deepad.data.tables import LINE, read_table, record_batches, text_columns
from deepad.errors import ArtifactError, DeepadError, InputError

randoms = st.randoms(use_true_random=False)


def examples(count):
    return settings(derandomize=True, deadline=None, max_examples=count, database=None)


# ---- saved scorers -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Saved scorers by name, and what is in them."""
    folders = save_seeds(tmp_path_factory.mktemp("seeds"))
    return {name: read_files(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for one mutation after the other."""
    return tmp_path_factory.mktemp("place")


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_what_is_to_be_changed_is_whole_and_judges(seeds, place):
    for document, arrays in seeds.values():
        write_files(place, sealed_files(document, arrays))
        assert outcome(place) == "judged"


@examples(250)
@given(random=randoms)
def test_a_scorer_changed_in_any_byte_is_refused_or_judges(seeds, place, random):
    write_files(place, mutated_file(random, sealed_files(*seeds[random.choice(sorted(seeds))])))
    with bounded(size_of(place)):
        outcome(place)


@examples(1200)
@given(random=randoms)
def test_a_scorer_changed_under_good_seals_is_refused_or_judges(seeds, place, random):
    write_files(place, mutated_scorer(random, *seeds[random.choice(sorted(seeds))]))
    with bounded(size_of(place)):
        outcome(place)


def test_a_score_that_overflows_downwards_is_finite(seeds, place):
    document, arrays = seeds["IQRDistance"]
    arrays = {**arrays, "model": {**arrays["model"], "spread": np.full(3, 1e-320)}}
    write_files(place, sealed_files(document, arrays))
    model = arrays["model"]
    inside, outside = (model["low"] + model["high"]) / 2, model["high"] + 1
    assert Scorer.load(place)(np.stack([inside, outside])).score.tolist() == [np.finfo(np.float64).min, np.inf]


@pytest.mark.parametrize("key", ["format", "schema", "deepad", "more"])
@pytest.mark.parametrize(
    "value", ["a\nb", "x" * 5000, ["\n" * 5000], 10**4000], ids=["lines", "long", "list", "number"]
)
def test_what_a_manifest_says_cannot_flood_a_message(seeds, place, key, value):
    document, arrays = seeds["tiers"]
    changed = {**document, "schema": 99} if key == "deepad" else {**document, f"{value}"[:5000]: 1}
    write_files(place, sealed_files(changed if key == "more" else {**changed, key: value}, arrays))
    with pytest.raises(ArtifactError) as caught:
        Scorer.load(place)
    require_one_line(caught.value)


# ---- data files ----------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(40, 2))
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 5), np.uint8)


def in_memory(save, *arguments, **options):
    file = io.BytesIO()
    save(file, *arguments, **options)
    return file.getvalue()


def image_bytes(kind, **options):
    return in_memory(lambda file: Image.fromarray(IMAGE).save(file, kind, **options))


def table_bytes(**options):
    table = pa.table({"a": X[:, 0], "b": np.arange(40), "kind": ["x", "y"] * 20})
    return in_memory(lambda file: pq.write_table(table, file, **options))


IDX = bytes([0, 0, 0x0E, 2]) + struct.pack(">2I", *X.shape) + X.astype(">f8").tobytes()
TEXT = "time,a,b,kind\n" + "".join(f"2024-01-01 00:{i:02d}:00,{a!r},{b!r},x\n" for i, (a, b) in enumerate(X.tolist()))
SAMPLES = {
    "x.npy": in_memory(np.save, X),
    "fortran.npy": in_memory(np.save, np.asfortranarray(X)),
    "x.npz": in_memory(np.savez, x=X, y=np.arange(40)),
    "packed.npz": in_memory(np.savez_compressed, x=X.T.copy().T, y=np.array(["a", "b"] * 20)),
    "x.csv": ("a,b\n" + "".join(f"{a!r},{b!r}\n" for a, b in X.tolist())).encode(),
    "x.parquet": in_memory(lambda file: pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), file)),
    "x-idx2": IDX,
    "x-idx2.gz": gzip.compress(IDX, mtime=0),
}
TABLES = {
    "t.csv": TEXT.encode(),
    "t.parquet": table_bytes(),
    "plain.parquet": table_bytes(use_dictionary=False, compression="gzip"),
    "t.npz": SAMPLES["packed.npz"],
    "t.npy": SAMPLES["x.npy"],
}
IMAGES = {
    "x.png": image_bytes("PNG"),
    "text.png": image_bytes("PNG", pnginfo=PngImagePlugin.PngInfo()),
    "x.jpg": image_bytes("JPEG"),
    "x.bmp": image_bytes("BMP"),
    "x.tif": image_bytes("TIFF"),
    "packed.tif": image_bytes("TIFF", compression="tiff_lzw"),
    "x.webp": image_bytes("WEBP", lossless=True),
}


def survives(path, read):
    """Read within the budget, or be refused in one line."""
    with bounded(path.stat().st_size):
        try:
            read(path)
        except DeepadError as error:
            require_one_line(error)


def samples_of(shape, label=None):
    def read(path):
        for batch in read_samples([path], shape, label=label):
            assert batch.x.dtype != object
            assert len(batch.x) == len(batch.source) == len(batch.index)

    return read


def as_tables(path):
    rows = sum(map(len, record_batches(path)))
    text_columns(path)
    assert len(read_table(path)) == rows


def as_recording(path):
    Reader(time="time", channels=["a", "b"], missing="hold", duplicates="first").read(list(from_files([str(path)])))


def of_one(random, place, kinds):
    name = random.choice(sorted(kinds))
    path = place / name
    path.write_bytes(mutated_bytes(random, kinds[name]))
    return path


@examples(400)
@given(random=randoms)
def test_samples_changed_in_any_byte_are_refused_or_read(place, random):
    path = of_one(random, place, SAMPLES)
    survives(path, samples_of((2,), "y" if path.suffix == ".npz" and random.random() < 0.5 else None))


@examples(150)
@given(random=randoms)
def test_images_changed_in_any_byte_are_refused_or_read(place, random):
    survives(of_one(random, place, IMAGES), samples_of((1, *IMAGE.shape)))


@examples(200)
@given(random=randoms)
def test_tables_changed_in_any_byte_are_refused_or_read(place, random):
    survives(of_one(random, place, TABLES), as_tables)


@examples(100)
@given(random=randoms)
def test_recordings_changed_in_any_byte_are_refused_or_read(place, random):
    survives(of_one(random, place, {"t.csv": TABLES["t.csv"], "t.parquet": TABLES["t.parquet"]}), as_recording)


@examples(150)
@given(random=randoms)
def test_labels_changed_in_any_byte_are_refused_or_read(place, random):
    y = np.arange(40, dtype=np.uint8)
    idx = bytes([0, 0, 8, 1]) + struct.pack(">I", 40) + y.tobytes()
    kinds = {"y-idx1": idx, "y-idx1.gz": gzip.compress(idx, mtime=0), "y.npy": in_memory(np.save, y)}
    kinds |= {"y.csv": b"y\n" + b"0\n1\n" * 20, "y.parquet": in_memory(lambda f: pq.write_table(pa.table({"y": y}), f))}
    survives(of_one(random, place, kinds), read_labels)


# ---- files that unpack to far more than they are -------------------------------------------------------------------

BOMB = 96 << 20
"""Bytes of zeros that a bomb unpacks to, four times what reading a small file may take."""


def zeros(write, size=BOMB):
    for _ in range(size // SLICE):
        write(bytes(SLICE))


def idx_bomb(path, *shape, size=BOMB):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape))
        zeros(file.write, size)


def npz_bomb(path, shape, *, fortran=False, method=zipfile.ZIP_DEFLATED, size=BOMB):
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive, archive.open("x.npy", "w") as file:
        header = {"descr": "|u1", "fortran_order": fortran, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        zeros(file.write, size)


def count(path, shape):
    return sum(len(batch.x) for batch in read_samples([path], shape))


def test_a_bomb_of_samples_is_read_in_slices(tmp_path):
    side = 1 << 10
    rows = BOMB // side**2
    idx_bomb(tmp_path / "x-idx3.gz", rows, side, side)
    npz_bomb(tmp_path / "x.npz", (rows, 1, side, side))
    for name in ("x-idx3.gz", "x.npz"):
        with bounded(side**2):
            assert count(tmp_path / name, (1, side, side)) == rows


def test_a_bomb_of_other_samples_is_refused_unread(tmp_path):
    idx_bomb(tmp_path / "x-idx2.gz", 8, BOMB // 8)
    npz_bomb(tmp_path / "x.npz", (8, BOMB // 8))
    for name in ("x-idx2.gz", "x.npz"):
        with bounded(0), pytest.raises(InputError, match="samples must have shape"):
            count(tmp_path / name, (7,))


@pytest.mark.parametrize("shape", [(1, 2**32 - 1), (2**32 - 1, 2**20)])
def test_an_array_that_announces_more_than_there_is_is_refused_at_its_end(tmp_path, shape):
    (tmp_path / "x-idx2.gz").write_bytes(gzip.compress(bytes([0, 0, 8, 2]) + struct.pack(">2I", *shape) + bytes(99)))
    with bounded(0), pytest.raises(InputError, match="holds fewer: it was cut short"):
        count(tmp_path / "x-idx2.gz", shape[1:])


def of_memory(monkeypatch, size):
    """A machine of so many bytes of memory, which does not say how many if it is None."""
    known = {} if size is None else {"SC_PHYS_PAGES": size // 4096, "SC_PAGE_SIZE": 4096}

    def sysconf(name):
        if name not in known:
            raise ValueError("unrecognized configuration name")
        return known[name]

    monkeypatch.setattr(os, "sysconf", sysconf)


@pytest.mark.parametrize("memory", [None, HELD])
def test_what_must_be_held_whole_is_refused_out_of_proportion_to_its_file(tmp_path, monkeypatch, memory):
    of_memory(monkeypatch, memory)
    size = HELD + SLICE
    npz_bomb(tmp_path / "x.npz", (size // 4, 4), fortran=True, size=size)
    idx_bomb(tmp_path / "y-idx1.gz", 2**32 - 1, size=SLICE)
    for read in (samples_of((4,)), as_tables):
        with bounded(0), pytest.raises(InputError, match="more than 100 times"):
            read(tmp_path / "x.npz")
    with bounded(0), pytest.raises(InputError, match="more than 100 times"):
        read_labels(tmp_path / "y-idx1.gz")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_compressed_as_numpy_does_not_is_refused(tmp_path, method):
    npz_bomb(tmp_path / "x.npz", (SLICE, 1), method=method, size=SLICE)
    with bounded(0), pytest.raises(InputError, match="compressed in a way NumPy does not write"):
        count(tmp_path / "x.npz", (1,))


def test_an_archive_that_lists_more_than_arrays_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for number in range(20):
            archive.writestr(f"{number:02d}" * 30_000, b"")
    with bounded(0), pytest.raises(InputError, match="lists more than arrays"):
        count(tmp_path / "x.npz", (1,))


def test_names_of_arrays_and_columns_cannot_flood_a_message(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in "ab":
            archive.writestr(f"{name}\n" * 10_000, b"")
    (tmp_path / "x.csv").write_text('"' + "a\n" * 10_000 + '",b\n1,2\n')
    for name in ("x.npz", "x.csv"):
        with pytest.raises(InputError) as caught:
            count(tmp_path / name, (3,))
        require_one_line(caught.value)


WIDE = HELD // COLUMN + 1
"""Columns that take more than any small file may."""


def test_a_table_of_too_many_columns_is_refused_unread(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"," * (WIDE - 1) + b"\n" + b"," * (WIDE - 1) + b"\n")
    (tmp_path / "header.csv").write_bytes(b"," * 65_000 + b"\n")
    np.save(tmp_path / "x.npy", np.zeros((2, WIDE), np.uint8))
    for name, columns in (("x.csv", WIDE), ("header.csv", 65_001), ("x.npy", WIDE)):
        with bounded(0), pytest.raises(InputError, match=f"has {columns} columns.*at most {WIDE - 1}: ") as caught:
            as_tables(tmp_path / name)
        assert ".npy (N" not in str(caught.value)


def test_a_line_of_millions_of_columns_is_refused_unread(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"," * (LINE - 1) + b"\n")
    with bounded(LINE), pytest.raises(InputError, match=f"has {LINE} columns"):
        as_tables(tmp_path / "x.csv")


def test_a_large_file_may_have_more_columns(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((100, WIDE), np.float32))
    assert next(record_batches(tmp_path / "x.npy")).num_columns == WIDE


def test_a_first_line_that_is_one_long_field_is_refused_unread(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"1" * SLICE + b"\n")
    with bounded(0), pytest.raises(InputError, match="first line with a field of more than"):
        count(tmp_path / "x.csv", (1,))


def test_a_table_without_lines_is_refused_unread(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"1" * BOMB)
    with bounded(0), pytest.raises(InputError, match="first line of more than"):
        count(tmp_path / "x.csv", (1,))


def test_names_of_columns_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a,\xd2\n1,x\n")
    for read in (text_columns, read_table):
        with pytest.raises(InputError, match="cannot read"):
            read(tmp_path / "x.csv")


def test_a_quote_that_never_ends_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'"' + b"a\n" * (BOMB // 8))
    with bounded(BOMB // 4), pytest.raises(InputError):
        count(tmp_path / "x.csv", (1,))


def test_a_parquet_file_whose_page_unpacks_to_far_more_is_refused_unread(tmp_path):
    table = pa.table({"a": np.zeros(HELD // 8 + 1)})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=False, compression="zstd", row_group_size=len(table))
    del table
    with bounded(0), pytest.raises(InputError, match="write it with smaller row groups"):
        as_tables(tmp_path / "x.parquet")


@pytest.fixture(scope="module", name="sparse")
def _sparse(tmp_path_factory):
    """Ones among zeros: 32 columns of a few kilobytes, and more than `HELD` as numbers."""
    path = tmp_path_factory.mktemp("sparse") / "x.parquet"
    x = np.zeros(HELD // (8 * 32) + 1)
    x[::1000] = 1
    pq.write_table(
        pa.table(dict.fromkeys(map(str, range(32)), pa.array(x))),
        path,
        use_dictionary=False,
        compression="zstd",
        row_group_size=len(x),
    )
    assert 100 * path.stat().st_size < 8 * 32 * len(x)
    return path, len(x)


def test_ones_among_zeros_are_streamed(sparse):
    path, rows = sparse
    with bounded(path.stat().st_size):
        assert sum(map(len, record_batches(path))) == rows


def test_ones_among_zeros_are_held_where_the_machine_has_room_for_them(sparse, monkeypatch):
    path, rows = sparse
    of_memory(monkeypatch, 4 * HELD)
    assert len(read_table(path)) == rows
    for memory in (None, 2 * HELD):
        of_memory(monkeypatch, memory)
        with pytest.raises(InputError, match="give it uncompressed, or in parts"):
            read_table(path)


def test_a_parquet_file_that_announces_a_million_columns_is_refused_unread(tmp_path):
    data = TABLES["t.parquet"]
    (length,) = struct.unpack("<I", data[-8:-4])
    body, footer = data[: -8 - length], data[-8 - length : -8]
    assert footer[2] == 0x19  # a list follows, of the columns: their number and type in the next byte
    footer = footer[:3] + b"\xfc\xc0\x84\x3d" + footer[4:]
    (tmp_path / "x.parquet").write_bytes(body + footer + struct.pack("<I", len(footer)) + b"PAR1")
    with bounded(0), pytest.raises(InputError, match="cannot read"):
        as_tables(tmp_path / "x.parquet")


def test_a_long_text_that_many_rows_share_is_not_written_out(tmp_path):
    shared = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4096, np.int32)), ["x" * (1 << 20), "y"])
    pq.write_table(pa.table({"a": shared}), tmp_path / "x.parquet", store_schema=False)
    with bounded(0), pytest.raises(InputError, match="bytes of text in 4096 rows of a"):
        as_tables(tmp_path / "x.parquet")


LONG = tables.TEXT // BATCH + 1
"""Bytes of a text that not every row of a batch may have."""


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
def test_a_long_text_that_rows_share_is_found_in_any_row_group(tmp_path, kind):
    texts = [*["x"] * 4096, *["x" * (LONG)] * 4096]
    pq.write_table(
        pa.table({"b": ["y"] * 8192, "a": pa.array(texts, kind)}), tmp_path / "x.parquet", row_group_size=4096
    )
    del texts
    with bounded(0), pytest.raises(InputError, match="bytes of text in 4096 rows of a"):
        as_tables(tmp_path / "x.parquet")


def test_a_long_text_among_short_ones_is_read(tmp_path):
    texts = ["x" * (LONG), "y", None] * 100
    for kind in ("string", "large_string", "string_view"):
        table = pa.table({"a.b": np.arange(300.0), "a": pa.array(texts, kind), "c": ["z"] * 300})
        pq.write_table(table, tmp_path / "x.parquet")
        assert read_table(tmp_path / "x.parquet").equals(table)


def test_text_of_a_parquet_file_comes_out_as_it_was_written(tmp_path):
    table = pa.table(
        {"a": ["x", None, "", "x"], "b": [1, 2, 3, 4], "c": pa.array(["p", "q", "p", None], "large_string")}
    )
    for options in ({}, {"use_dictionary": False}, {"store_schema": False}):
        pq.write_table(table, tmp_path / "x.parquet", **options)
        assert read_table(tmp_path / "x.parquet").to_pydict() == table.to_pydict()
        assert [str(kind).removeprefix("large_") for kind in read_table(tmp_path / "x.parquet").schema.types] == [
            "string",
            "int64",
            "string",
        ]


def test_an_image_with_a_bomb_of_text_is_refused_by_name(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "a" * (8 << 20), zip=True)
    Image.fromarray(IMAGE).save(tmp_path / "b.png", pnginfo=text)
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with bounded(0), pytest.raises(InputError, match=r"b\.png is not a whole image"):
        count(tmp_path, (1, *IMAGE.shape))


def test_the_pages_of_an_image_are_not_counted(tmp_path):
    entries = [(256, 3, 1, 5), (257, 3, 1, 6), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
               (277, 3, 1, 1), (278, 3, 1, 6), (279, 4, 1, 30)]  # fmt: skip
    page = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    size = len(page) + 4
    pages = 20_000
    chain = b"".join(page + struct.pack("<I", 38 + (number + 1) * size) for number in range(pages))
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<I", 38) + bytes(30) + chain)
    with bounded(0), pytest.raises(InputError, match="several pages"):
        count(tmp_path / "x.tif", (1, *IMAGE.shape))


def test_a_huge_image_is_refused_by_its_header(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "x.png")
    with bounded(0), pytest.raises(InputError, match=r"20000 x 20000|exceeds limit"):
        count(tmp_path / "x.png", (1, *IMAGE.shape))


DEEP = 100_000


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "[" * DEEP + "]" * DEEP, "9" * 10_000])
def test_a_deep_or_odd_document_of_the_user_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "odd").write_text(text)
    with pytest.raises(InputError, match="is not the JSON of intervals") as caught:
        Reader(intervals=str(tmp_path / "odd")).labels("a.csv", None, a_line(), None)
    require_one_line(caught.value)
    with pytest.raises(InputError, match="is not the YAML") as caught:
        read_yaml(tmp_path / "odd")
    require_one_line(caught.value)


def a_line():
    schema = Reader(time="time").read([("a", pa.table({"time": [0.0, 1.0, 2.0], "x": [1.0, 2.0, 3.0]}))])
    return schema[1][0].line
