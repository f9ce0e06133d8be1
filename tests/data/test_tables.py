"""Tables in several files: folders, globs, joined types, text columns."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rightbatch.data as rb
from rightbatch.errors import DataError, OptionError


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content)
    return folder


def test_files_are_joined_in_the_order_of_their_names(tmp_path):
    write(tmp_path, b="x,y\n3,0\n", a="x,y\n1,0\n2,1\n", c="y,x\n1,4\n")
    for thing in (tmp_path, str(tmp_path / "*.csv"), str(tmp_path / "[abc].csv")):
        data = rb.open(thing, target="y")
        assert data.span(0, 4)["x"].tolist() == [1, 2, 3, 4]
        assert data.span(0, 4)["y"].tolist() == [0, 1, 0, 1]


def test_whole_numbers_give_way_to_floats_and_nothing_to_all(tmp_path):
    write(tmp_path, a="x,y,z\n1,,p\n", b="x,y,z\n2.5,1,q\n")
    data = rb.open(tmp_path, missing="fill")
    assert data.span(0, 2)["x"].tolist() == [1.0, 2.5]
    assert data.span(0, 2)["y"].tolist() == [0, 1]
    assert data.column("z").categories == ("p", "q")


def test_categories_are_those_of_all_files(tmp_path):
    write(tmp_path, a="x,y\n1,zebra\n", b="x,y\n1,ant\n")
    data = rb.open(tmp_path, target="y")
    assert data.column("y").categories == ("ant", "zebra")
    assert data.span(0, 2)["y"].tolist() == [1, 0]


def test_text_in_one_file_and_numbers_in_another_are_refused(tmp_path):
    write(tmp_path, a="x,y\n1,2\n", b="x,y\n3,4\n5,oops\n")
    with pytest.raises(DataError) as refusal:
        rb.open(tmp_path)
    for word in (
        "Column 'y'",
        f"numbers in {tmp_path / 'a.csv'}",
        f"text in {tmp_path / 'b.csv'}",
        f"'oops' at {tmp_path / 'b.csv'}, line 3",
    ):
        assert word in str(refusal.value)


def test_other_columns_are_refused_naming_the_difference(tmp_path):
    write(tmp_path, a="x,y\n1,2\n", b="x,z\n3,4\n")
    with pytest.raises(
        DataError, match=r"b\.csv has other columns than .*a\.csv: it lacks 'y' and adds 'z'"
    ):
        rb.open(tmp_path)


def test_another_number_of_fields_is_refused_without_header(tmp_path):
    write(tmp_path, a="1,2\n", b="3,4,5\n")
    with pytest.raises(DataError, match=r"adds 'column_2' \(3 columns against 2\)"):
        rb.open(tmp_path, header=False)


def test_the_place_of_a_missing_value_is_in_the_right_file(tmp_path):
    write(tmp_path, a="x,y\n1,2\n1,2\n", b="x,y\n1,2\n\n1,\n")
    with pytest.raises(DataError, match=r"b\.csv, line 4 \(the header counts\), column 'y'"):
        rb.open(tmp_path)


def test_one_empty_file_among_many_is_refused_by_name(tmp_path):
    write(tmp_path, a="x,y\n1,2\n", b="x,y\n")
    with pytest.raises(DataError, match=r"b\.csv has a header alone"):
        rb.open(tmp_path)


def test_folders_and_globs_without_tables(tmp_path):
    with pytest.raises(DataError, match=r"is an empty folder"):
        rb.open(tmp_path)
    (tmp_path / "notes.docx").write_bytes(b"x")
    (tmp_path / "more").mkdir()
    with pytest.raises(DataError, match=r"but: more/, notes\.docx.*\*\*/\*\.csv"):
        rb.open(tmp_path)
    with pytest.raises(DataError, match=r"No file matches .*\*\.csv"):
        rb.open(str(tmp_path / "*.csv"))


def test_a_glob_over_other_files_is_refused(tmp_path):
    write(tmp_path, a="x\n1\n")
    (tmp_path / "b.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.npy is no table"):
        rb.open(str(tmp_path / "*"))


def test_a_glob_that_matches_one_file_opens_it(tmp_path):
    np.save(tmp_path / "only.npy", np.arange(3))
    assert len(rb.open(str(tmp_path / "*.npy"))) == 3


def test_parquet_and_csv_are_not_mixed(tmp_path):
    write(tmp_path, a="x\n1\n")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"mixes Parquet \(b\.parquet\) with CSV \(a\.csv\)"):
        rb.open(tmp_path)


def test_notes_and_hidden_files_in_a_folder_are_left_alone(tmp_path):
    write(tmp_path, a="x,y\n1,2\n")
    for name in ("README.txt", "_SUCCESS", ".hidden.csv", "SHA256SUMS"):
        (tmp_path / name).write_text("words")
    assert len(rb.open(tmp_path)) == 1


def test_one_hot_columns_stand_where_the_text_stood(tmp_path):
    write(tmp_path, a="n,sex,job,ill\n1,F,a,no\n2,M,b,yes\n3,F,a,no\n")
    data = rb.open(tmp_path / "a.csv", target="ill", categories="one-hot")
    names = [column.name for column in data.columns]
    assert names == ["n", "sex=F", "sex=M", "job=a", "job=b", "ill"]
    whole = data.span(0, 3)
    assert whole["sex=F"].tolist() == [1, 0, 1]
    assert whole["sex=F"].dtype == np.uint8
    assert whole["ill"].tolist() == [0, 1, 0]
    assert data.column("ill").categories == ("no", "yes")


def test_one_hot_names_that_are_taken_are_refused(tmp_path):
    write(tmp_path, a="sex,sex=F\nF,1\nM,0\n")
    with pytest.raises(DataError, match="'sex=F'"):
        rb.open(tmp_path / "a.csv", categories="one-hot")


def test_an_identifier_is_not_made_one_hot(tmp_path):
    write(tmp_path, a="x\n" + "".join(f"name {k}\n" for k in range(10_001)))
    with pytest.raises(DataError, match=r"'x' has 10,001 different texts.*categories='codes'"):
        rb.open(tmp_path / "a.csv", categories="one-hot")


@pytest.mark.parametrize(("count", "dtype"), [(100, np.int8), (200, np.int16), (40_000, np.int32)])
def test_codes_are_as_small_as_they_can_be(tmp_path, count, dtype):
    write(tmp_path, a="x\n" + "".join(f"name {k:06}\n" for k in range(count)))
    data = rb.open(tmp_path / "a.csv")
    assert data.column("x").dtype == dtype
    np.testing.assert_array_equal(data.span(0, count)["x"], np.arange(count))


def test_the_target_by_name_and_position(tmp_path):
    write(tmp_path, a="a,b,c\n1,2,3\n")
    path = tmp_path / "a.csv"
    assert [rb.open(path, target=t).target for t in ("b", 0, -1, "-1", None)] == [
        *("b", "a", "c", "c"),
        None,
    ]
    with pytest.raises(DataError, match=r"no target at position 3: valid are 0 to 2.*a, b, c"):
        rb.open(path, target=3)
    with pytest.raises(DataError, match=r"no target 'bb'\. Did you mean 'b'\? .*a, b, c"):
        rb.open(path, target="bb")
    with pytest.raises(DataError, match=r"no column 'cc'\. Did you mean 'c'"):
        rb.open(path, columns=["cc"])


def test_an_infinite_target_is_refused(tmp_path):
    write(tmp_path, a="a,b\n1,0.5\n2,inf\n")
    with pytest.raises(DataError, match=r"'b' is infinite at .*a\.csv, line 3"):
        rb.open(tmp_path / "a.csv", target="b")


# Parquet


def test_parquet_types(tmp_path):
    table = pa.table(
        {
            "whole": pa.array([1, 2], pa.int16()),
            "half": pa.array([0.5, 1.5], pa.float32()),
            "flag": [True, False],
            "day": [date(1970, 1, 2), date(1970, 1, 3)],
            "moment": pa.array([datetime(1970, 1, 1, 0, 0, 1, 500_000)] * 2, pa.timestamp("us")),
            "price": [Decimal("1.25"), Decimal("2.50")],
            "word": pa.array(["b", "a"]).dictionary_encode(),
            "long": pa.array(["x", "y"], pa.large_string()),
            "pause": pa.array([1500, 2500], pa.duration("ms")),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    data = rb.open(tmp_path / "t.parquet", target="word")
    whole = data.span(0, 2)
    assert {name: array.dtype.name for name, array in whole.items()} == {
        **{"whole": "int16", "half": "float32", "flag": "bool", "day": "float64"},
        **{"moment": "float64", "price": "float64", "word": "int64", "long": "int8"},
        "pause": "float64",
    }
    assert whole["day"].tolist() == [86_400, 2 * 86_400]
    assert whole["moment"].tolist() == [1.5, 1.5]
    assert whole["price"].tolist() == [1.25, 2.5]
    assert whole["word"].tolist() == [1, 0]
    assert whole["pause"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1], [2, 3]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([b"x", b"y"]),
    ],
    ids=["list", "struct", "binary"],
)
def test_nested_types_are_refused_by_name_and_can_be_left_out(tmp_path, values):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"good": [1, 2], "bad": values}), path)
    with pytest.raises(
        DataError, match=r"t\.parquet: column 'bad' .*valid (in a table )?are numbers"
    ):
        rb.open(path)
    assert len(rb.open(path, columns=["good"])) == 2


def test_parquet_missing_values_are_nulls_and_nan(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1, None, 3], "b": [0.5, 1.5, float("nan")]}), path)
    with pytest.raises(DataError, match=r"'a' 1, 'b' 1.*row 2 \(the first is row 1\), column 'a'"):
        rb.open(path)
    assert rb.open(path, missing="drop").span(0, 1)["b"].tolist() == [0.5]
    with pytest.raises(DataError, match=r"target 'b', the first at .*row 3"):
        rb.open(path, missing="fill", target="b")


def test_files_of_different_integer_widths_are_joined(tmp_path):
    pq.write_table(pa.table({"a": pa.array([1], pa.int16())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": pa.array([2], pa.uint32())}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"a": pa.array([0.5], pa.float32())}), tmp_path / "3.parquet")
    data = rb.open(tmp_path)
    assert data.span(0, 3)["a"].tolist() == [1, 2, 0.5]
    assert data.column("a").dtype == np.float64


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 40, b"a,b\n1,2\n"])
def test_a_bad_parquet_file_is_refused(tmp_path, content):
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet is (empty|no readable Parquet)"):
        rb.open(path)


def test_parquet_without_rows_is_refused(tmp_path):
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="zero rows"):
        rb.open(tmp_path / "t.parquet")


def test_a_header_has_no_meaning_for_parquet(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(OptionError, match=r"header=False has no meaning for .*\(Parquet\)"):
        rb.open(tmp_path / "t.parquet", header=False)


# Real data


def test_adult(real_data):
    path = real_data / "adult" / "adult.data"
    with pytest.raises(DataError, match=r"'39' is a number above .*--no-header"):
        rb.open(path)
    with pytest.raises(DataError, match=r"'column_1' 1,836, 'column_6' 1,843, 'column_13' 583"):
        rb.open(path, header=False)
    data = rb.open(path, header=False, target=-1, missing="drop")
    assert len(data) == 32_561 - 2_399
    assert data.column("column_14").categories == ("<=50K", ">50K")
    assert data.column("column_9").categories == ("Female", "Male")
    assert data.span(0, 1)["column_0"].tolist() == [39]
    filled = rb.open(path, header=False, target=-1, missing="fill", categories="one-hot")
    assert len(filled) == 32_561
    assert filled.span(0, len(filled))["column_1=missing"].sum() == 1_836
    # Every one-hot group has exactly one 1 a row.
    group = [column.name for column in filled.columns if column.name.startswith("column_13=")]
    whole = filled.span(0, len(filled))
    totals = np.sum([whole[name].astype(int) for name in group], axis=0)
    assert set(totals.tolist()) == {1}


def test_taxi(real_data):
    folder = real_data / "nyc-taxi-2019"
    with pytest.raises(DataError) as refusal:
        rb.open(folder)
    for word in ("'vendor_id' 372", "'congestion_surcharge' 6,327", "2019-01.csv, line 2 "):
        assert word in str(refusal.value)
    data = rb.open(str(folder / "*.csv"), target="fare_amount", missing="fill")
    assert len(data) == 120_000
    assert len(data.columns) == 18
    assert data.column("store_and_fwd_flag").categories == ("N", "Y", "missing")
    first = data.span(0, 1)
    assert first["pickup_datetime"][0] == np.datetime64("2019-01-15T03:36:12").astype(int)
    # The first two files have CRLF line ends; their last column is a number all the same.
    assert data.column("congestion_surcharge").dtype == np.float64
    assert data.span(119_999, 120_000)["congestion_surcharge"].tolist() == [2.5]
    dropped = rb.open(folder, target="fare_amount", missing="drop")
    assert len(dropped) == 120_000 - 6_327 - 372
