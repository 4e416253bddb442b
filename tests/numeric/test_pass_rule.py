"""Each clause of the pass rule fails on a planted fault, and nothing else of it stands in the way."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tpcgen.interpreter.compare import FORMATS, judge
from tpcgen.program.dtypes import DType

BF16 = ml_dtypes.bfloat16


@pytest.fixture
def rows():
    """A truth of two rows of different magnitude, and its bf16 rounding."""
    truth = np.random.default_rng(1).standard_normal((2, 64)) * np.array([[1.0], [1000.0]])
    return truth, truth.astype(BF16)


def test_the_rounded_truth_passes(rows):
    truth, device = rows
    verdict = judge(device, truth, device)
    assert verdict.passed and not verdict.reason
    assert verdict.error == verdict.device_error == np.abs(device.astype("f8") - truth).max()


def test_one_ulp_more_than_twice_the_device_error_passes_and_two_more_do_not(rows):
    truth = rows[0][:1].copy()
    truth[0, 0] = 3.0
    truth[0, 1:] = np.clip(truth[0, 1:], -1.9, 1.9)
    device = truth.astype(BF16)
    row_error = np.abs(device[0].astype("f8") - truth[0]).max()
    ulp = 2.0**-6
    allowed = 2 * row_error + ulp
    y = device.copy()
    y[0, 0] = BF16(3.0 + ulp)
    assert abs(float(y[0, 0]) - 3.0) <= allowed
    assert judge(y, truth, device).passed
    y[0, 0] = BF16(3.0 + 3 * ulp)
    assert abs(float(y[0, 0]) - 3.0) > allowed
    verdict = judge(y, truth, device)
    assert not verdict.passed and verdict.where == (0, 0)
    assert verdict.bound == pytest.approx(allowed)


def off(truth, row, error):
    """The truth in f32 with an error in one element of a row."""
    result = truth.astype(np.float32)
    result[row, 0] += np.float32(error)
    return result


def test_a_row_may_lose_twice_the_share_that_any_row_loses():
    truth = np.array([[8.0, 1.0], [4.0, 1.0]])
    device = off(truth, 0, 0.08)  # 1 % of its row; the other row was lucky and is exact
    assert judge(off(truth, 1, 0.079), truth, device).passed
    assert not judge(off(truth, 1, 0.081), truth, device).passed
    verdict = judge(off(truth, 1, 0.081), truth, device)
    assert verdict.where == (1, 0) and verdict.bound == pytest.approx(0.08, rel=1e-4)


def test_a_large_row_may_not_lose_the_share_of_a_small_one_but_twice_the_worst_error():
    truth = np.array([[1.0, 0.5], [1000.0, 1.0]])
    device = off(truth, 0, 0.01)  # 1 % of a small row is no excuse for 1 % of a large one
    assert judge(off(truth, 1, 0.019), truth, device).passed
    assert not judge(off(truth, 1, 0.1), truth, device).passed


def test_a_row_that_underflows_excuses_no_other():
    truth = np.array([[1e-60, 0.0], [1e-3, 0.0], [1.0, 0.0]])
    device = off(truth, 2, 1e-4)
    device[0, 0] = 0.0  # all of it is lost, which is nothing against the least normal number
    assert judge(device, truth, device).passed
    assert judge(off(truth, 1, 1.9e-7), truth, device).passed
    assert not judge(off(truth, 1, 1e-4), truth, device).passed


def test_no_row_is_ever_allowed_a_quarter_of_its_magnitude():
    rng = np.random.default_rng(7)
    for _ in range(200):
        truth = rng.standard_normal((4, 8)) * 10.0 ** rng.integers(-6, 6, (4, 1))
        device = (truth * (1 + rng.uniform(-0.12, 0.12, truth.shape) * rng.integers(0, 2, (4, 1)))).astype(np.float32)
        row = int(rng.integers(4))
        largest = np.abs(truth[row]).max()
        y = truth.astype(np.float32)
        y[row, 3] += np.float32(0.25 * largest)
        assert not judge(y, truth, device).passed


def test_an_error_allowed_in_a_large_row_fails_in_a_small_one(rows):
    truth, device = rows
    wrong = np.array([[0.5], [0.0]])
    assert not judge((device + wrong).astype(BF16), truth, device).passed
    assert judge((device + wrong[::-1]).astype(BF16), truth, device).passed


def test_f32_gets_four_ulps():
    truth = np.full((1, 8), 1.0)
    device = truth.astype(np.float32)
    y = device.copy()
    y[0, 3] = 1 + 4 * 2.0**-23
    assert judge(y, truth, device).passed
    y[0, 3] = 1 + 5 * 2.0**-23
    assert not judge(y, truth, device).passed


def test_integers_get_none():
    truth = np.arange(8, dtype=np.int32)
    assert judge(truth, truth, truth).passed
    assert not judge(truth + np.int32(1), truth, truth).passed


def test_a_device_mode_too_wrong_to_judge_by_is_inconclusive():
    truth = np.full((1, 8), 1.0)
    device = truth.copy().astype(np.float32)
    device[0, 5] = 1.11
    verdict = judge(truth.astype(np.float32), truth, device)
    assert not verdict.passed and "inconclusive" in verdict.reason
    device[0, 5] = 1.09
    assert judge(truth.astype(np.float32), truth, device).passed


def test_a_row_that_underflows_is_judged_as_the_zero_it_is():
    truth = np.array([[1e-75, -1e-60], [1.0, 2.0]])
    device = truth.astype(np.float32)
    assert judge(device, truth, device).passed
    wrong = device.copy()
    wrong[0, 0] = 1e-30
    assert not judge(wrong, truth, device).passed


def test_all_zero_never_passes_for_a_truth_that_is_not():
    truth = np.full((1, 4), 2.0**-149)
    device = truth.astype(np.float32)
    zeros = np.zeros_like(device)
    assert np.abs(truth).max() <= 4 * 2.0**-149
    verdict = judge(zeros, truth, device)
    assert not verdict.passed and "all zero" in verdict.reason


def test_all_zero_passes_for_a_truth_that_underflows():
    truth = np.array([[1e-60, -1e-300]])
    zeros = np.zeros((1, 2), np.float32)
    assert judge(zeros, truth, truth.astype(np.float32)).passed
    truth[0, 0] = 2.0**-149
    assert not judge(zeros, truth, truth.astype(np.float32)).passed


def test_zero_rows_of_zero_truth_pass_and_must_be_zero():
    truth = np.array([[0.0, 0.0], [1.0, 2.0]])
    device = truth.astype(np.float32)
    assert judge(device, truth, device).passed
    y = device.copy()
    y[0, 1] = 1e-6
    assert not judge(y, truth, device).passed


@pytest.mark.parametrize("y, truth", [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (np.inf, -np.inf)])
def test_nan_and_inf_must_agree(y, truth):
    expected = np.array([[truth, 1.0]])
    got = np.array([[y, 1.0]], np.float32)
    assert not judge(got, expected, expected.astype(np.float32)).passed


@pytest.mark.parametrize("x", [np.nan, np.inf, -np.inf])
def test_agreeing_nan_and_inf_pass(x):
    truth = np.array([[x, 1.0]])
    assert judge(truth.astype(np.float32), truth, truth.astype(np.float32)).passed


def test_where_the_dtype_overflows_the_truth_is_infinite():
    truth = np.array([[1e5, -1e6, 3.0]])
    right = np.array([[np.inf, -np.inf, 3.0]], np.float16)
    assert judge(right, truth, right).passed
    for wrong in (65504.0, -np.inf, np.nan):
        y = right.copy()
        y[0, 0] = wrong
        assert not judge(y, truth, right).passed


def test_nan_in_device_mode_only_is_inconclusive():
    truth = np.array([[1.0, 2.0]])
    device = np.array([[np.nan, 2.0]], np.float32)
    assert "inconclusive" in judge(truth.astype(np.float32), truth, device).reason


def test_shape_and_dtype_must_match(rows):
    truth, device = rows
    assert "shape" in judge(device[:1], truth, device).reason
    assert "shape" in judge(device.T, truth, device).reason
    assert "dtype" in judge(device.astype(np.float32), truth, device).reason


def test_empty_outputs_and_scalars():
    empty = np.zeros((3, 0))
    assert judge(empty.astype(BF16), empty, empty.astype(BF16)).passed
    one = np.array(1.0)
    assert judge(one.astype(np.float32), one, one.astype(np.float32)).passed
    assert not judge(np.array(1.01, np.float32), one, one.astype(np.float32)).passed


@pytest.mark.parametrize("dtype", [d for d in DType if d.is_float])
def test_formats_are_those_of_ml_dtypes(dtype):
    info = ml_dtypes.finfo(dtype.numpy)
    assert (info.nmant, info.minexp) == FORMATS[dtype]
    for x in (1.0, 1.5, 2.0**-20, 100.0):
        near = np.array(x).astype(dtype.numpy)
        truth = near.astype("f8").reshape(1, 1)
        up = np.nextafter(near, np.array(np.inf).astype(dtype.numpy)).reshape(1, 1)
        assert judge(up, truth, truth.astype(dtype.numpy)).passed


def test_what_flushing_denormals_loses_is_no_error_and_anything_larger_is():
    truth = np.array([[3e-37, 1.0], [3e-37, 2e-37]])
    device = truth.astype(np.float32)
    flushed = np.array([[0, 1], [0, 0]], np.float32)
    assert judge(flushed, truth, device).passed
    flushed[1, 0] = 1e-34
    assert not judge(flushed, truth, device).passed
    larger = np.array([[1e-30, 1.0], [1e-30, 2e-30]])
    assert not judge(np.array([[0, 1], [0, 0]], np.float32), larger, larger.astype(np.float32)).passed


@pytest.fixture
def gradient():
    """A truth of twenty rows of about 1, the fifth 1e-6, and device mode, which loses 1e-3 in every row."""
    truth = np.random.default_rng(3).uniform(0.5, 1, (20, 8))
    truth[5] *= 1e-6
    device = truth.astype(np.float32)
    device[:, 1] += np.float32(1e-3)
    return truth, device


def test_only_a_gradient_may_have_inconclusive_rows_and_says_how_many(gradient):
    truth, device = gradient
    verdict = judge(device, truth, device, gradient=True)
    assert verdict.passed and verdict.inconclusive == 1
    verdict = judge(device, truth, device)
    assert not verdict.passed and "inconclusive" in verdict.reason and verdict.where[0] == 5
    assert judge(np.delete(device, 5, 0), np.delete(truth, 5, 0), np.delete(device, 5, 0)).inconclusive == 0


def test_an_inconclusive_row_may_lose_twice_what_device_mode_loses_at_worst(gradient):
    truth, device = gradient
    assert judge(off(truth, 5, 1.9e-3), truth, device, gradient=True).passed
    verdict = judge(off(truth, 5, 2.1e-3), truth, device, gradient=True)
    assert not verdict.passed and verdict.where == (5, 0) and verdict.inconclusive == 1


def test_an_inconclusive_row_excuses_no_other(gradient):
    truth, device = gradient
    device[5, 1] += np.float32(0.05)
    share = np.abs(device - truth)[:5].max() / np.abs(truth[:5]).max(axis=1).min()
    assert judge(off(truth, 7, 1.9e-3), truth, device, gradient=True).passed
    assert not judge(off(truth, 7, 2.1 * share), truth, device, gradient=True).passed


def test_a_gradient_of_which_a_tenth_of_the_rows_is_inconclusive_is(gradient):
    truth, device = gradient
    truth[[5, 11]] *= 1e-6
    device[[5, 11], 0] = 0.0
    device[[5, 11], 2:] = 0.0
    assert judge(device, truth, device, gradient=True).inconclusive == 2
    truth[12] *= 1e-6
    verdict = judge(device, truth, device, gradient=True)
    assert not verdict.passed and verdict.inconclusive == 3 and "inconclusive" in verdict.reason


def test_rows_of_a_gradient_that_are_0_are_none_of_those_left(gradient):
    truth, device = gradient
    truth[6:12], device[6:12] = 0, 0
    assert judge(device, truth, device, gradient=True).inconclusive == 1
    truth[12:], device[12:] = 0, 0
    verdict = judge(device, truth, device, gradient=True)
    assert not verdict.passed and verdict.inconclusive == 1 and verdict.where[0] == 5


def test_a_gradient_whose_largest_row_is_inconclusive_is_judged_by_the_others_if_they_reach_a_tenth(gradient):
    truth, device = gradient
    truth[5], device[5] = 0.0, 0.0
    truth[5, 0] = 9.0 * truth.max()
    verdict = judge(device, truth, device, gradient=True)
    assert verdict.passed and verdict.inconclusive == 1
    assert not judge(off(truth, 7, 3e-3), truth, device, gradient=True).passed
    truth[5, 0] *= 1.2
    assert not judge(device, truth, device, gradient=True).passed


def test_a_row_of_a_gradient_may_lose_what_f32_loses_beside_the_largest():
    truth = np.full((4, 3), 32.0)
    truth[2] = 1e-4
    device = truth.astype(np.float32)
    ulps = 4 * 2.0**-18
    for share, passes in ((0.9, True), (1.1, False)):
        y = device.copy()
        y[2, 0] += share * ulps
        assert judge(y, truth, device, gradient=True).passed is passes
        assert not judge(y, truth, device).passed
