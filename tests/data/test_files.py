"""Every kind of file that holds samples, good and bad: read exactly, or refused with the one error that says why."""

import csv
import gzip
import io
import math
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deepad.data.arrays import BATCH, read_idx
from deepad.data.files import read_labels, read_samples
from deepad.data.tables import read_table, record_batches, text_columns
from deepad.errors import DeepadError, InputError
from deepad.scoring.inputs import as_samples

GREY, COLOUR = (1, 4, 5), (3, 4, 5)


def pixels(n, shape=GREY):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)


def save_image(path, image, **options):
    """Write (C, H, W) as a file of the kind its ending says."""
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path, **options)
    return path


def rows_of(paths, shape, **options):
    """Everything in the files, in one array."""
    paths = paths if isinstance(paths, list) else [paths]
    return np.concatenate([batch.x for batch in read_samples(paths, shape, **options)])


def labels_of(path, shape, label):
    return np.concatenate([batch.y for batch in read_samples([path], shape, label=label)]).tolist()


def refused(path, shape=(2,), match=None, **options):
    with pytest.raises(InputError, match=match) as caught:
        rows_of(path, shape, **options)
    assert isinstance(caught.value, DeepadError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def text(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


# ---- what holds for every kind -------------------------------------------------------------------------------------


def write_npy(path, x):
    np.save(path, x)


def write_npz(path, x):
    np.savez(path, x=x)


def write_csv(path, x):
    flat = x.reshape(len(x), math.prod(x.shape[1:]))
    lines = [",".join(f"c{i}" for i in range(flat.shape[1])), *(",".join(map(repr, row)) for row in flat.tolist())]
    path.write_text("\n".join(lines) + "\n")


def write_parquet(path, x):
    flat = x.reshape(len(x), math.prod(x.shape[1:]))
    pq.write_table(pa.table({f"c{i}": column for i, column in enumerate(flat.T)}), path)


IDX_CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx_bytes(x, dtype=">f8"):
    head = bytes([0, 0, IDX_CODES[dtype], x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape)
    return head + x.astype(dtype).tobytes()


def write_idx(path, x):
    path.write_bytes(idx_bytes(x))


def write_idx_gz(path, x):
    path.write_bytes(gzip.compress(idx_bytes(x)))


KINDS = {
    "x.npy": write_npy,
    "x.npz": write_npz,
    "x.csv": write_csv,
    "x.parquet": write_parquet,
    "x-idx2-double": write_idx,
    "x-idx2-double.gz": write_idx_gz,
}


@pytest.fixture(params=KINDS, name="kind")
def _kind(request):
    return request.param, KINDS[request.param]


@pytest.mark.parametrize("shape", [(2,), (1, 2, 3), (3, 2, 2), (4, 2)])
def test_values_come_out_exactly_and_in_order(tmp_path, kind, shape):
    name, save = kind
    x = np.random.default_rng(0).normal(size=(9, *shape))
    save(tmp_path / name, x)
    assert (rows_of(tmp_path / name, shape) == x).all()


def test_long_files_come_in_batches_that_know_their_rows(tmp_path, kind):
    name, save = kind
    n = 2 * BATCH + 3
    x = np.random.default_rng(0).normal(size=(n, 2))
    save(tmp_path / name, x)
    batches = list(read_samples([tmp_path / name], (2,)))
    assert np.concatenate([batch.index for batch in batches]).tolist() == list(range(n))
    assert {source for batch in batches for source in batch.source} == {str(tmp_path / name)}
    assert all(len(batch.x) == len(batch.source) == len(batch.index) for batch in batches)
    assert all(batch.y is None for batch in batches)
    assert (np.concatenate([batch.x for batch in batches]) == x).all()


def test_several_files_follow_each_other_and_are_counted_apart(tmp_path, kind):
    name, save = kind
    x = np.random.default_rng(0).normal(size=(5, 2))
    for folder, part in (("a", x[:2]), ("b", x[2:])):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / name, part)
    paths = [tmp_path / "b" / name, str(tmp_path / "a" / name)]
    batches = list(read_samples(paths, (2,)))
    assert (np.concatenate([batch.x for batch in batches]) == np.concatenate([x[2:], x[:2]])).all()
    assert np.concatenate([batch.index for batch in batches]).tolist() == [0, 1, 2, 0, 1]
    assert [source for batch in batches for source in batch.source] == [str(paths[0])] * 3 + [str(paths[1])] * 2


def test_a_file_is_not_read_before_it_is_asked_for(tmp_path):
    write_npy(tmp_path / "x.npy", np.ones((2, 2)))
    batches = read_samples([tmp_path / "x.npy", tmp_path / "missing.npy"], (2,))
    assert next(batches).x.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(InputError, match=r"missing\.npy"):
        next(batches)


def test_a_file_without_samples_is_refused(tmp_path, kind):
    name, save = kind
    save(tmp_path / name, np.empty((0, 2)))
    refused(tmp_path / name, match="holds no samples")


def test_an_empty_file_is_refused(tmp_path, kind):
    path = tmp_path / kind[0]
    path.write_bytes(b"")
    refused(path)


def test_a_file_cut_short_anywhere_is_refused_or_holds_only_whole_rows(tmp_path, kind):
    name, save = kind
    x = np.random.default_rng(0).normal(size=(6, 2))
    save(tmp_path / name, x)
    whole = (tmp_path / name).read_bytes()
    read = 0
    for length in range(0, len(whole) - 1, max(1, len(whole) // 150)):
        (tmp_path / name).write_bytes(whole[:length])
        try:
            rows = rows_of(tmp_path / name, (2,))
        except InputError:
            continue
        read += 1
        assert (rows[:-1] == x[: len(rows) - 1]).all()  # a CSV file may end inside the digits of its last number
    assert read == 0 or name == "x.csv"


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet", "x-idx2-double.gz"])
def test_a_file_altered_anywhere_is_refused_or_still_numbers(tmp_path, name):
    KINDS[name](tmp_path / name, np.random.default_rng(0).normal(size=(6, 2)))
    whole = (tmp_path / name).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 300)):
        (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            rows = rows_of(tmp_path / name, (2,))
        except InputError:
            continue
        assert rows.dtype != object


def test_a_file_of_one_kind_named_as_another_is_refused(tmp_path, kind):
    name, save = kind
    save(tmp_path / name, np.ones((3, 2)))
    whole = (tmp_path / name).read_bytes()
    for other in [*KINDS, "x.png", "x.jpg"]:
        if other == name:
            continue
        path = tmp_path / f"renamed-{other}"
        path.write_bytes(whole)
        shape = (1, 4, 5) if other in ("x.png", "x.jpg") else (2,)
        refused(path, shape)


def test_a_missing_file_is_refused(tmp_path, kind):
    refused(tmp_path / kind[0], match="no file or folder")


def test_a_missing_folder_is_refused(tmp_path):
    refused(tmp_path / "nowhere", GREY, match="no file or folder")


@pytest.mark.parametrize("name", ["x.txt", "x", "x.xlsx", "x.pkl", "x.pt", "x.ckpt", "x.gz", "x.npy.bak"])
def test_an_unknown_ending_is_refused_with_what_can_be_read(tmp_path, name):
    path = text(tmp_path / name, "1,2\n")
    assert all(kind in refused(path) for kind in (".npy", ".npz", ".csv", ".parquet", "IDX", "image"))


@pytest.mark.parametrize("name", ["X.NPY", "X.CSV"])
def test_endings_may_be_written_large(tmp_path, name):
    if name == "X.NPY":
        with (tmp_path / name).open("wb") as file:
            np.save(file, np.ones((1, 2)))
    else:
        text(tmp_path / name, "1,1\n")
    assert rows_of(tmp_path / name, (2,)).tolist() == [[1, 1]]


class Canary:
    """Unpickling it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", [*KINDS, "x.png"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_never_opened_whatever_its_name(tmp_path, name, protocol):
    (tmp_path / name).write_bytes(pickle.dumps(Canary(tmp_path / "executed"), protocol))
    refused(tmp_path / name, GREY)
    refused_labels = [".npy", ".csv", ".parquet"]
    if Path(name).suffix in refused_labels or "idx" in name:
        with pytest.raises(InputError):
            read_labels(tmp_path / name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_an_object_array_is_never_unpickled(tmp_path, name):
    x = np.array([[Canary(tmp_path / "executed"), 1]], dtype=object)
    if name == "x.npy":
        np.save(tmp_path / name, x, allow_pickle=True)
    else:
        np.savez(tmp_path / name, x=x)
    refused(tmp_path / name)
    assert not (tmp_path / "executed").exists()


# ---- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".PNG"])
def test_pixels_come_out_exactly(tmp_path, shape, ending):
    image = pixels(1, shape)[0]
    (batch,) = read_samples([save_image(tmp_path / f"a{ending}", image)], shape)
    assert batch.x.dtype == np.uint8
    assert (batch.x == image).all()
    assert (batch.source, batch.index.tolist(), batch.y) == ([str(tmp_path / f"a{ending}")], [0], None)


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".webp"])
def test_pixels_of_lossy_images_come_out_as_stored(tmp_path, ending):
    path = save_image(tmp_path / f"a{ending}", pixels(1, COLOUR)[0])
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert (rows_of(path, COLOUR) == stored).all()


def test_a_grey_image_is_grey_in_every_colour(tmp_path):
    image = pixels(1)[0]
    path = save_image(tmp_path / "a.png", image)
    assert (rows_of(path, COLOUR) == image).all()


def test_a_colour_image_of_grey_pixels_is_grey(tmp_path):
    image = pixels(1)[0]
    path = save_image(tmp_path / "a.png", np.repeat(image, 3, axis=0))
    assert (rows_of(path, GREY) == image).all()


def test_palettes_and_transparency_are_resolved(tmp_path):
    image = np.zeros((4, 5, 4), np.uint8)
    image[..., 0], image[..., 3] = 200, 255
    Image.fromarray(image).save(tmp_path / "rgba.png")
    Image.fromarray(image[..., :3]).quantize(4).save(tmp_path / "palette.png")
    for name in ("rgba.png", "palette.png"):
        assert (rows_of(tmp_path / name, COLOUR) == image[..., :3].transpose(2, 0, 1)).all()


def test_a_16_bit_image_is_read_exactly_or_refused(tmp_path):
    image = (np.arange(20).reshape(4, 5) * 3000).astype(np.uint16)
    Image.fromarray(image).save(tmp_path / "a.png")
    try:
        x = rows_of(tmp_path / "a.png", GREY)
    except InputError:
        return
    assert (x[0, 0] == image).all()


def test_a_folder_is_read_in_sorted_order_with_what_is_below(tmp_path):
    images = pixels(5)
    names = ["b.png", "a.png", "c/z.png", "c/a.bmp", "10.PNG"]
    (tmp_path / "c").mkdir()
    for name, image in zip(names, images, strict=True):
        save_image(tmp_path / name, image)
    text(tmp_path / "labels.csv", "y\n1\n")
    (tmp_path / "d.png").mkdir()
    (batch,) = read_samples([tmp_path], GREY)
    order = np.argsort([str(tmp_path / name) for name in names])
    assert batch.source == [str(tmp_path / names[i]) for i in order]
    assert (batch.x == images[order]).all()
    assert batch.index.tolist() == [0] * 5


def test_folders_and_files_can_be_mixed(tmp_path):
    images = pixels(3)
    (tmp_path / "folder").mkdir()
    save_image(tmp_path / "folder" / "a.png", images[0])
    save_image(tmp_path / "b.png", images[1])
    np.save(tmp_path / "c.npy", images[2:])
    paths = [tmp_path / "folder", tmp_path / "b.png", tmp_path / "c.npy"]
    assert (rows_of(paths, GREY) == images).all()


@pytest.mark.parametrize("size", [(5, 4), (4, 6), (3, 5), (8, 10), (1, 20)])
def test_an_image_of_another_size_is_refused_with_both_sizes(tmp_path, size):
    path = save_image(tmp_path / "a.png", pixels(1, (1, *size))[0])
    refused(path, GREY, match=f"{size[1]} x {size[0]} pixels, this model takes 5 x 4")


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_an_image_cut_short_anywhere_is_refused_or_whole(tmp_path, ending, shape):
    path = save_image(tmp_path / f"a{ending}", pixels(1, shape)[0])
    whole, x = path.read_bytes(), rows_of(path, shape)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            rows = rows_of(path, shape)
        except InputError:
            continue
        assert (rows == x).all()  # only what stands behind the pixels was missing
        assert length > len(whole) - 32


def test_an_altered_image_is_refused_or_read(tmp_path):
    path = save_image(tmp_path / "a.png", pixels(1)[0])
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert rows_of(path, GREY).shape == (1, *GREY)
        except InputError:
            continue


def test_one_bad_image_of_a_folder_is_named(tmp_path):
    for name in "abc":
        save_image(tmp_path / f"{name}.png", pixels(1)[0])
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"b\.png is not a whole image"):
        rows_of(tmp_path, GREY)


def test_text_named_as_an_image_is_refused(tmp_path):
    refused(text(tmp_path / "a.png", "not an image"), GREY, match="not a whole image")


@pytest.mark.parametrize("files", [[], ["notes.txt", "x.npy"]])
def test_a_folder_without_images_is_refused(tmp_path, files):
    for name in files:
        text(tmp_path / name, "")
    assert ".png" in refused(tmp_path, GREY, match="holds no images")


@pytest.mark.parametrize("shape", [(20,), (5, 4), (2, 4, 5), (4, 4, 5)])
def test_images_are_refused_by_a_model_of_other_samples(tmp_path, shape):
    save_image(tmp_path / "a.png", pixels(1)[0])
    for path in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(InputError, match="not images"):
            rows_of(path, shape)


# ---- NumPy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">i4", "i8", "f2", "f4", ">f8"])
def test_arrays_of_every_width_come_out_as_they_are(tmp_path, dtype):
    x = pixels(3, (2,)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    rows = rows_of(tmp_path / "x.npy", (2,))
    assert rows.tolist() == x.tolist()
    assert rows.dtype.kind == x.dtype.kind


def test_a_fortran_array_comes_out_in_its_order(tmp_path):
    x = np.asfortranarray(np.arange(24.0).reshape(4, 3, 2))
    np.save(tmp_path / "x.npy", x)
    assert (rows_of(tmp_path / "x.npy", (3, 2)) == x).all()


@pytest.mark.parametrize("name", ["x", "X"])
def test_the_samples_of_an_archive_are_called_x(tmp_path, name):
    x = np.random.default_rng(0).normal(size=(4, 2))
    np.savez(tmp_path / "a.npz", **{"other": np.zeros(3), name: x})
    np.savez_compressed(tmp_path / "b.npz", **{name: x})
    assert (rows_of(tmp_path / "a.npz", (2,)) == x).all()
    assert (rows_of(tmp_path / "b.npz", (2,)) == x).all()


def test_the_only_array_of_an_archive_may_have_any_name(tmp_path):
    np.savez(tmp_path / "a.npz", frames=np.ones((4, 2)))
    np.savez(tmp_path / "b.npz", frames=np.ones((4, 2)), y=np.arange(4))
    assert rows_of(tmp_path / "a.npz", (2,)).shape == (4, 2)
    assert rows_of(tmp_path / "b.npz", (2,), label="y").shape == (4, 2)


def test_an_archive_of_several_arrays_is_refused_with_their_names(tmp_path):
    np.savez(tmp_path / "a.npz", left=np.ones((4, 2)), right=np.ones((4, 2)))
    assert all(name in refused(tmp_path / "a.npz", match="call the samples x") for name in ("left", "right"))


def test_an_archive_of_nothing_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    for name in ("a.npz", "b.npz"):
        refused(tmp_path / name)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("x", [np.array(1.0), np.array([]), np.array(["a", "b"]), np.zeros(2, "M8[s]")], ids=str)
def test_an_array_that_is_none_of_samples_is_refused_at_the_latest_by_the_scorer(tmp_path, name, x):
    KINDS[name](tmp_path / name, x)
    with pytest.raises(InputError):
        as_samples(rows_of(tmp_path / name, (2,)), (2,))


# ---- CSV -----------------------------------------------------------------------------------------------------------

CSV_ROWS = [[1.0, 2.5], [3.0, -4.0]]
GOOD_CSV = {
    "with header": "a,b\n1,2.5\n3,-4\n",
    "without header": "1,2.5\n3,-4\n",
    "no newline at the end": "a,b\n1,2.5\n3,-4",
    "windows newlines": "a,b\r\n1,2.5\r\n3,-4\r\n",
    "exponents": "a,b\n1e0,25e-1\n+3,-4E+0\n",
    "quoted header": '"a","b, in m"\n1,2.5\n3,-4\n',
    "quoted numbers": 'a,b\n"1","2.5"\n"3","-4"\n',
    "quoted numbers without header": '"1","2.5"\n"3","-4"\n',
    "byte order mark": "\ufeffa,b\n1,2.5\n3,-4\n",
    "byte order mark without header": "\ufeff1,2.5\n3,-4\n",
    "header with a number in a name": "x1,2nd\n1,2.5\n3,-4\n",
    "header in another language": "größe,高さ\n1,2.5\n3,-4\n",
    "spaces": "a,b\n1, 2.5\n3, -4\n",
}


@pytest.mark.parametrize("content", GOOD_CSV.values(), ids=GOOD_CSV.keys())
def test_a_table_of_numbers_is_read_with_and_without_header(tmp_path, content):
    assert rows_of(text(tmp_path / "x.csv", content), (2,)).tolist() == CSV_ROWS


@pytest.mark.parametrize("content", ["y\n1\n0\n", "1\n0\n", "\ufeff1\n0\n", '"1"\n"0"\n'])
def test_a_table_of_one_column_keeps_its_first_row(tmp_path, content):
    path = text(tmp_path / "x.csv", content)
    assert rows_of(path, (1,)).tolist() == [[1], [0]]
    assert read_labels(path).tolist() == [1, 0]


def test_floats_come_out_bit_for_bit(tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 2)) * 10.0 ** np.random.default_rng(1).integers(-300, 300, (200, 2))
    write_csv(tmp_path / "x.csv", x)
    assert rows_of(tmp_path / "x.csv", (2,)).tobytes() == x.tobytes()


def test_truth_values_are_numbers(tmp_path):
    rows = rows_of(text(tmp_path / "x.csv", "a,b\n1,true\n0,false\n"), (2,))
    assert as_samples(rows, (2,)).tolist() == [[1, 1], [0, 0]]


def test_a_column_of_whole_numbers_may_turn_to_fractions_late(tmp_path):
    n = 400_000  # beyond the first block of any reader
    rows = rows_of(text(tmp_path / "x.csv", "a,b\n" + "0,1\n" * n + "0.5,1\n"), (2,))
    assert len(rows) == n + 1
    assert rows[-1].tolist() == [0.5, 1]


def test_an_empty_cell_may_come_late(tmp_path):
    n = 400_000
    rows = rows_of(text(tmp_path / "x.csv", "a,b\n" + "0,1\n" * n + ",1\n"), (2,))
    assert np.isnan(rows[-1, 0])


@pytest.mark.parametrize(
    "content",
    ["a,b\n1,\n2,3\n", "a,b\n1,\n2,\n", "a,b\n1.5,NaN\n2,3\n", "a,b\n1,NA\n2,3\n", "a,b\n1,true\n2,\n", "a,b\n,\n,\n"],
)
def test_an_empty_cell_becomes_nan_and_is_refused_by_the_scorer(tmp_path, content):
    rows = rows_of(text(tmp_path / "x.csv", content), (2,))
    assert rows.dtype.kind == "f"
    assert np.isnan(rows).any()
    with pytest.raises(InputError, match="NaN"):
        as_samples(rows, (2,))


def test_infinity_is_refused_by_the_scorer(tmp_path):
    rows = rows_of(text(tmp_path / "x.csv", "a,b\n1,inf\n2,-inf\n"), (2,))
    with pytest.raises(InputError, match="infinite"):
        as_samples(rows, (2,))


def test_a_column_of_text_is_refused_by_name(tmp_path):
    refused(text(tmp_path / "x.csv", "size,colour\n1,red\n2,blue\n"), match="not numbers: colour; drop or encode")


@pytest.mark.parametrize("content", ["date,b\n2020-01-01,1\n", "time,b\n12:30:00,1\n"])
def test_a_column_of_dates_is_refused(tmp_path, content):
    refused(text(tmp_path / "x.csv", content), match="not numbers")


@pytest.mark.parametrize("content", ["a\n1\n", "a,b,c\n1,2,3\n", "1,2,3\n4,5,6\n", "a|b\n1|2\n"])
def test_another_number_of_columns_is_refused(tmp_path, content):
    refused(text(tmp_path / "x.csv", content))


def test_another_number_of_columns_is_refused_with_both_numbers_and_some_names(tmp_path):
    columns = ",".join(f"c{i}" for i in range(100))
    message = refused(text(tmp_path / "x.csv", columns + "\n" + ",".join("1" * 100) + "\n"), match="100 columns")
    assert "2 values" in message
    assert "94 more" in message


@pytest.mark.parametrize("content", ["a,b\n1,2\n3\n", "a,b\n1,2\n3,4,5\n", "a,b\n1\n2\n", "a\n1,2\n"])
def test_ragged_rows_are_refused(tmp_path, content):
    refused(text(tmp_path / "x.csv", content), match="broken or of another kind")


def test_two_columns_of_one_name_are_read_or_refused(tmp_path):
    path = text(tmp_path / "x.csv", "a,a\n1,2\n")
    try:
        rows = rows_of(path, (2,))
    except InputError:
        return
    assert rows.tolist() == [[1, 2]]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_read_or_refused(tmp_path, encoding):
    path = text(tmp_path / "x.csv", "größe,b\n1,2\n", encoding)
    try:
        rows = rows_of(path, (2,))
    except InputError:
        return
    assert rows.tolist() == [[1, 2]]


@pytest.mark.parametrize("content", ["", "\n", "\n\n\n", "a,b\n", "a,b"])
def test_a_table_of_no_rows_is_refused(tmp_path, content):
    refused(text(tmp_path / "x.csv", content))


def test_a_row_of_a_table_is_laid_out_as_the_shape_of_a_sample(tmp_path):
    path = text(tmp_path / "x.csv", "1,2,3,4,5,6\n")
    assert rows_of(path, (3, 2)).tolist() == [[[1, 2], [3, 4], [5, 6]]]
    assert rows_of(path, (1, 2, 3)).tolist() == [[[[1, 2, 3], [4, 5, 6]]]]


# ---- Parquet -------------------------------------------------------------------------------------------------------


def test_columns_of_every_width_are_read(tmp_path):
    types = [pa.int8(), pa.uint16(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_()]
    values = [np.float16(1.5) if pa.types.is_float16(kind) else 1 for kind in types]
    columns = [pa.array([bool(value)] if kind == pa.bool_() else [value], kind)
               for kind, value in zip(types, values, strict=True)]  # fmt: skip
    pq.write_table(pa.table(dict(zip("abcdefg", columns, strict=True))), tmp_path / "x.parquet")
    rows = rows_of(tmp_path / "x.parquet", (7,))
    assert as_samples(rows, (7,)).tolist() == [[1, 1, 1, 1.5, 1, 1, 1]]


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.bool_(), pa.null()], ids=str)
def test_a_missing_value_becomes_nan_and_is_refused_by_the_scorer(tmp_path, kind):
    column = pa.array([None, None], kind) if pa.types.is_null(kind) else pa.array([1, None]).cast(kind)
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": column}), tmp_path / "x.parquet")
    rows = rows_of(tmp_path / "x.parquet", (2,))
    assert rows.dtype.kind == "f"
    assert np.isnan(rows[1, 1])
    with pytest.raises(InputError, match="NaN"):
        as_samples(rows, (2,))


@pytest.mark.parametrize(
    "column",
    [["x"], [b"x"], [[1, 2]], [{"c": 1}], pa.array([1], pa.timestamp("s")), pa.array(["x"]).dictionary_encode()],
    ids=["text", "bytes", "list", "struct", "time", "category"],
)
def test_a_column_of_no_numbers_is_refused_by_name(tmp_path, column):
    pq.write_table(pa.table({"a": [1.0], "odd": column}), tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", match="not numbers: odd")


# ---- IDX -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("shape", [(5,), (5, 3), (2, 3, 4)])
@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"])
def test_an_idx_array_comes_out_exactly(tmp_path, dtype, shape, name):
    x = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    data = idx_bytes(x, dtype)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    came = read_idx(tmp_path / name)
    assert (came.dtype, came.shape, came.tolist()) == (np.dtype(dtype), x.shape, x.tolist())


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_an_idx_file_cut_short_anywhere_or_too_long_is_refused(tmp_path, compress):
    whole = idx_bytes(np.arange(6).reshape(3, 2), "u1")
    path = tmp_path / ("x-idx2.gz" if compress is gzip.compress else "x-idx2")
    for length in range(len(whole)):
        path.write_bytes(compress(whole[:length]))
        with pytest.raises(InputError):
            read_idx(path)
    path.write_bytes(compress(whole + b"\0"))
    with pytest.raises(InputError, match=r"announces 6 values of 1 bytes but holds (7 bytes|more)"):
        read_idx(path)


HOSTILE_IDX = {
    "another magic": b"\1\0\x08\1" + struct.pack(">I", 1) + b"a",
    "an unknown type": b"\0\0\x0a\1" + struct.pack(">I", 1) + b"a",
    "no dimension": b"\0\0\x08\0a",
    "huge": b"\0\0\x0e\4" + struct.pack(">4I", *[2**32 - 1] * 4),
    "huge and empty": b"\0\0\x08\4" + struct.pack(">4I", 0, *[2**32 - 1] * 3),
    "too many dimensions": b"\0\0\x08\xff" + struct.pack(">255I", *[1] * 255) + b"a",
}


@pytest.mark.parametrize("data", HOSTILE_IDX.values(), ids=HOSTILE_IDX.keys())
def test_a_hostile_idx_file_is_refused(tmp_path, data):
    (tmp_path / "x-idx2").write_bytes(data)
    refused(tmp_path / "x-idx2")


# ---- labels --------------------------------------------------------------------------------------------------------


def test_the_label_column_of_a_table_is_no_part_of_a_sample(tmp_path):
    text(tmp_path / "x.csv", "a,y,b\n1,0,2\n3,1,4\n")
    pq.write_table(pa.table({"a": [1, 3], "y": [0, 1], "b": [2, 4]}), tmp_path / "x.parquet")
    for name in ("x.csv", "x.parquet"):
        assert rows_of(tmp_path / name, (2,), label="y").tolist() == [[1, 2], [3, 4]]
        assert labels_of(tmp_path / name, (2,), "y") == [0, 1]


def test_labels_may_be_text(tmp_path):
    path = text(tmp_path / "x.csv", "a,b,kind\n1,2,good\n3,4,bad\n")
    assert labels_of(path, (2,), "kind") == ["good", "bad"]
    assert rows_of(path, (2,), label="kind").tolist() == [[1, 2], [3, 4]]


def test_the_label_array_of_an_archive_is_no_part_of_a_sample(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.array([0, 1, 0]))
    assert labels_of(tmp_path / "a.npz", (2,), "y") == [0, 1, 0]


def test_labels_keep_step_with_their_rows_over_many_batches(tmp_path):
    n = 2 * BATCH + 5
    y = np.random.default_rng(0).integers(0, 2, n)
    np.savez(tmp_path / "a.npz", x=np.ones((n, 2)), y=y)
    pq.write_table(pa.table({"y": y, "a": np.ones(n), "b": np.ones(n)}), tmp_path / "a.parquet")
    for name in ("a.npz", "a.parquet"):
        batches = list(read_samples([tmp_path / name], (2,), label="y"))
        assert all(len(batch.x) == len(batch.y) for batch in batches)
        assert labels_of(tmp_path / name, (2,), "y") == y.tolist()


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.npz"])
def test_a_missing_label_is_refused_with_what_there_is(tmp_path, name):
    KINDS[name](tmp_path / name, np.ones((3, 2)))
    assert ("x" if name == "x.npz" else "c0") in refused(tmp_path / name, label="truth", match="'truth'")


@pytest.mark.parametrize("y", [np.zeros(2), np.zeros(4), np.array(1)], ids=["fewer", "more", "no vector"])
def test_an_archive_with_another_number_of_labels_is_refused(tmp_path, y):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=y)
    refused(tmp_path / "a.npz", label="y")


def test_an_archive_with_labels_but_one_number_as_samples_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array(1.0), y=np.ones(1))
    refused(tmp_path / "a.npz", label="y")


def test_labels_of_their_own_file_are_read_from_every_kind(tmp_path):
    y = np.array([0, 1, 1, 0])
    np.save(tmp_path / "y.npy", y)
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx_bytes(y, "u1"))
    (tmp_path / "labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(y, "u1")))
    text(tmp_path / "header.csv", "y\n0\n1\n1\n0\n")
    text(tmp_path / "plain.csv", "0\n1\n1\n0\n")
    pq.write_table(pa.table({"y": y}), tmp_path / "y.parquet")
    for path in tmp_path.iterdir():
        assert read_labels(path).tolist() == y.tolist(), path


def test_long_files_of_labels_are_read_whole(tmp_path):
    y = np.random.default_rng(0).integers(0, 2, 3 * BATCH + 1)
    pq.write_table(pa.table({"y": y}), tmp_path / "y.parquet")
    assert read_labels(tmp_path / "y.parquet").tolist() == y.tolist()


BAD_LABELS = {
    "two-columns.csv": b"a,b\n1,2\n",
    "header-only.csv": b"y\n",
    "empty.csv": b"",
    "broken.parquet": b"PAR1" + bytes(20) + b"PAR1",
    "text.npy": b"0\n1\n",
    "labels.txt": b"0\n1\n",
    "labels-idx1-ubyte.gz": b"\x1f\x8b" + bytes(20),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_a_file_that_is_none_of_labels_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(BAD_LABELS[name])
    with pytest.raises(InputError, match=name):
        read_labels(tmp_path / name)


def test_labels_of_more_than_one_value_a_row_are_refused(tmp_path):
    np.save(tmp_path / "y.npy", np.ones((3, 2)))
    with pytest.raises(InputError, match=r"shape \(3, 2\)"):
        read_labels(tmp_path / "y.npy")


def test_a_damaged_file_of_labels_is_refused(tmp_path):
    pq.write_table(pa.table({"y": np.arange(100)}), tmp_path / "y.parquet")
    whole = (tmp_path / "y.parquet").read_bytes()
    for place in range(0, len(whole), 9):
        (tmp_path / "y.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert read_labels(tmp_path / "y.parquet").ndim == 1
        except InputError:
            continue


def test_missing_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match="no labels at"):
        read_labels(tmp_path / "y.npy")


def test_a_folder_of_labels_is_refused(tmp_path):
    with pytest.raises(InputError, match=tmp_path.name):
        read_labels(tmp_path)


def test_what_a_spreadsheet_writes_is_read(tmp_path):
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *CSV_ROWS])
    assert rows_of(text(tmp_path / "x.csv", out.getvalue()), (2,)).tolist() == CSV_ROWS


# ---- tables --------------------------------------------------------------------------------------------------------


def test_columns_are_guessed_or_taken_as_written(tmp_path):
    path = text(tmp_path / "x.csv", "code,flag,x\n01,True,1\n2.0,False,2\n,True,\n")
    assert read_table(path)["code"].to_pylist() == [1, 2, None]
    written = read_table(path, text={"code", "flag", "not there"})
    assert written["code"].to_pylist() == ["01", "2.0", ""]
    assert written["flag"].to_pylist() == ["True", "False", "True"]
    assert written["x"].to_pylist() == [1, 2, None]
    assert text_columns(path) == set()
    assert text_columns(text(tmp_path / "y.csv", "code,x\n01,1\nA1,2\n")) == {"code"}


def test_an_array_is_a_table_of_numbered_columns(tmp_path):
    x = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    for name in ("x.npy", "x.npz"):
        assert read_table(tmp_path / name).to_pydict() == {"x0": [0, 2, 4], "x1": [1, 3, 5]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ragged.csv", b"a,b\n1,2\n3\n", "cannot read .*ragged.csv"),
        ("short.parquet", b"PA", "cannot read .*short.parquet"),
        ("none.csv", None, "no file at .*none.csv"),
    ],
)
def test_batches_of_a_broken_table_are_refused_in_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(record_batches(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_wide_table_is_read(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 20_000))
    np.save(tmp_path / "x.npy", x[:5])
    names = [f"gene{place:05}" for place in range(20_000)]
    pq.write_table(pa.table(dict(zip(names, x[:5].T, strict=True))), tmp_path / "x.parquet")
    lines = [",".join(names), *(",".join(map(repr, row)) for row in x.tolist())]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    for name, rows in (("x.npy", 5), ("x.parquet", 5), ("x.csv", 50)):
        table = read_table(tmp_path / name)
        assert (np.stack(table.columns, 1) == x[:rows]).all()
        assert table.schema.names == ([f"x{place}" for place in range(20_000)] if name == "x.npy" else names)


def test_rows_longer_than_a_block_of_arrow_are_read(tmp_path):
    columns = 25_000
    (tmp_path / "x.csv").write_text("".join(",".join([str(row).rjust(50)] * columns) + "\n" for row in range(3)))
    table = read_table(tmp_path / "x.csv")
    assert (np.stack(table.columns, 1) == np.arange(3)[:, None]).all()


def test_long_names_of_many_columns_are_read(tmp_path):
    names = [f"g{place:029}" for place in range(5_000)]
    (tmp_path / "x.csv").write_text(",".join(names) + "\n" + ",".join(["1"] * 5_000) + "\n")
    assert read_table(tmp_path / "x.csv").schema.names == names
