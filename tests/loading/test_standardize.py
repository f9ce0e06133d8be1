"""Statistics of train alone, as scikit-learn's StandardScaler finds them, in one stable pass."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

import rightbatch as rb
from rightbatch.loading.transforms import Standardize

GENERATOR = np.random.default_rng(0)


def standardized(part) -> NDArray[np.float32]:
    inputs: NDArray[np.float32] = next(iter(rb.Batches(part, "full", shuffle=False)))
    return inputs


def fit_on(values: NDArray[np.generic]) -> tuple[NDArray[np.float32], Standardize]:
    parts = rb.split(rb.open(values)).transform(rb.standardize())
    (fitted,) = parts.train.transforms
    assert isinstance(fitted, Standardize)
    return standardized(parts.train), fitted


@pytest.mark.parametrize(
    ("offset", "spread", "dtype"),
    [
        (0.0, 1.0, "float64"),
        (1e9, 1.0, "float64"),
        (-1e9, 1.0, "float64"),
        (1.5e9, 86_400.0, "int64"),
        (1e9, 50.0, "int32"),
        (1e-9, 1e-12, "float64"),
        (1_234_567.0, 1.0, "float32"),
        (1e7, 3.0, "float32"),
        (100.0, 30.0, "uint8"),
        (1000.0, 3.0, "float16"),
    ],
)
def test_it_agrees_with_scikit_learn(offset: float, spread: float, dtype: str) -> None:
    # More rows than one chunk of the pass, and not a multiple of it.
    values = (offset + spread * GENERATOR.normal(size=(9001, 3))).astype(dtype)
    found, fitted = fit_on(values)
    scaler = StandardScaler().fit(values.astype(np.float64))
    assert found.dtype == np.float32
    np.testing.assert_allclose(fitted.mean, scaler.mean_, rtol=1e-12, atol=1e-9 * spread)
    np.testing.assert_allclose(fitted.std, scaler.scale_, rtol=1e-12)
    # scikit-learn's own mean is up to 4e-6 deviations off where the offset is 1e9.
    np.testing.assert_allclose(found, scaler.transform(values.astype(np.float64)), atol=1e-5)
    np.testing.assert_allclose(found.mean(axis=0, dtype=np.float64), 0.0, atol=5e-7)
    np.testing.assert_allclose(found.std(axis=0, dtype=np.float64), 1.0, atol=1e-6)


def test_wide_columns_keep_their_digits_until_they_are_centred() -> None:
    stamps = 1_700_000_000 + GENERATOR.integers(0, 60, 5000)
    ages = GENERATOR.integers(0, 90, 5000).astype(np.int16)
    parts = rb.split(rb.open({"stamp": stamps, "age": ages}))
    expected = StandardScaler().fit_transform(np.stack([stamps, ages], axis=1).astype(np.float64))
    for before in ([], [rb.flatten()]):
        found = standardized(parts.transform(*before, rb.standardize()).train)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3e8, 1e-300, 1e12 + 0.1, 255])
def test_a_constant_feature_is_only_centred(constant: float) -> None:
    values = np.full((9001, 2), constant)
    values[:, 1] = GENERATOR.normal(size=9001)
    found, fitted = fit_on(values)
    assert fitted.std is not None
    assert fitted.std[0] == 1.0
    np.testing.assert_allclose(found[:, 0], 0.0, atol=1e-15 * abs(constant) + 1e-30)
    assert found[:, 1].std() == pytest.approx(1.0, abs=1e-5)


def test_a_small_spread_on_a_large_mean_is_no_constant() -> None:
    microseconds = np.float64(1.7e15) + GENERATOR.integers(0, 1000, (5000, 1))
    found, _ = fit_on(microseconds)
    assert found.std() == pytest.approx(1.0, abs=1e-3)


def test_val_and_test_use_the_statistics_of_train() -> None:
    X = GENERATOR.normal(size=(600, 2)) * [3.0, 0.1] + [5.0, -2.0]
    parts = rb.split(rb.open(X), val=0.3, test=0.2, seed=1)
    prepared = parts.transform(rb.standardize())
    rows = parts.train.rows.take(np.arange(len(parts.train)))
    scaler = StandardScaler().fit(X[rows])
    for name in ("train", "val", "test"):
        part = prepared.all[name]
        expected = scaler.transform(X[part.rows.take(np.arange(len(part)))])
        np.testing.assert_allclose(standardized(part), expected, atol=1e-6)


def test_held_out_values_play_no_part() -> None:
    X = GENERATOR.normal(size=(100, 1))
    parts = rb.split(rb.open(X), val=20, seed=3)
    assert parts.val is not None
    poisoned = X.copy()
    poisoned[parts.val.rows.take(np.arange(20))] = np.nan
    other = rb.split(rb.open(poisoned), val=20, seed=3)
    fitted = [p.transform(rb.standardize()).train.transforms[0] for p in (parts, other)]
    assert fitted[0].to_json() == fitted[1].to_json()


def test_images_get_statistics_of_each_pixel() -> None:
    images = GENERATOR.integers(0, 256, (300, 4, 5)).astype(np.uint8)
    found, fitted = fit_on(images)
    assert fitted.mean is not None
    assert fitted.mean.shape == (4, 5)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_feature(wrong: float) -> None:
    values = GENERATOR.normal(size=(50, 3))
    values[17, 2] = wrong
    with pytest.raises(rb.DataError, match=r"NaN or infinity in feature 2.*missing='drop'"):
        fit_on(values)


def test_values_whose_sum_is_no_number_are_refused_by_feature() -> None:
    values = np.stack([GENERATOR.normal(size=50), np.full(50, 1e308)], axis=1)
    with pytest.raises(rb.DataError, match="NaN or infinity in feature 1"):
        fit_on(values)


def test_one_field_of_several_has_to_be_named() -> None:
    data = rb.open({"image": np.ones((9, 2, 2)), "age": np.arange(9.0)})
    parts = rb.split(data)
    with pytest.raises(rb.DataError, match=r"image, age.*column="):
        parts.transform(rb.standardize())
    batch = standardized(parts.transform(rb.standardize(column="age")).train)
    assert isinstance(batch, dict)
    assert batch["age"].std() == pytest.approx(1.0)
    assert batch["image"].tolist() == np.ones((9, 2, 2)).tolist()
