"""Marginal probabilities: what is drawn, and that they are the mean over what the network says of each draw."""

from __future__ import annotations

import numpy as np
import torch

from mms_regions.model.label import Prediction, label_windows
from mms_regions.model.marginals import DrawnScales, drawn_factors, marginal_of
from mms_regions.model.network import RegionRNN
from mms_regions.model.stability import feature_factors


def network() -> RegionRNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        found = RegionRNN()
    with torch.no_grad():
        found.fc.weight *= 10
    return found


def test_draws_are_log_normal_and_follow_from_seed_and_segment_alone() -> None:
    factors = drawn_factors("A/mms1", 0.1, 0.4, 4000, 0)
    b0, n0 = 1 / factors[:, 0], 1 / factors[:, 6]
    for drawn, error in ((b0, 0.1), (n0, 0.4)):
        assert abs(np.median(np.log(drawn))) < 3 * error / np.sqrt(4000)
        assert np.isclose(np.log(drawn).std(), error, rtol=0.05)
    assert abs(np.corrcoef(np.log(b0), np.log(n0))[0, 1]) < 0.06
    np.testing.assert_allclose(factors[7], feature_factors(b0[7], n0[7]), rtol=1e-6)
    np.testing.assert_array_equal(drawn_factors("A/mms1", 0.1, 0.4, 16, 0), drawn_factors("A/mms1", 0.1, 0.4, 16, 0))
    for other in (drawn_factors("A/mms2", 0.1, 0.4, 16, 0), drawn_factors("A/mms1", 0.1, 0.4, 16, 1)):
        assert not np.isclose(other, drawn_factors("A/mms1", 0.1, 0.4, 16, 0)).any(axis=0).any()


def test_what_is_known_exactly_is_not_drawn() -> None:
    factors = drawn_factors("A/mms1", 0.0, 0.3, 16, 0)
    np.testing.assert_array_equal(factors[:, 0], 1)
    assert len(set(factors[:, 6].tolist())) == 16


def test_the_mean_over_draws_with_features_scaled_and_no_other_samples() -> None:
    rng = np.random.default_rng(2)
    windows = rng.normal(0, 1, (5, 32, 14)).astype(np.float32)
    windows[1, 20:] = np.nan
    windows[3] = np.nan
    withheld = np.zeros((5, 32), bool)
    withheld[0, 4] = True
    model = network()

    def label(some: np.ndarray, kept_back: np.ndarray) -> Prediction:
        return label_windows(model, some, kept_back)

    point = label(windows, withheld)
    drawn = [
        DrawnScales(slice(0, 2), drawn_factors("A", 0.1, 0.3, 8, 0)),
        DrawnScales(slice(2, 4), drawn_factors("B", 0.2, 0.1, 8, 0)),
    ]
    found = marginal_of(point, windows, withheld, drawn, label)
    for scales in drawn:
        runs = [label(windows[scales.windows] * f, withheld[scales.windows]).probability for f in scales.factors]
        np.testing.assert_allclose(found.probability[scales.windows], np.mean(runs, axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found.label[:4] >= 0, point.label[:4] >= 0)
    assert (found.label[4] == -1).all(), "nothing is drawn for it"
    there = found.label >= 0
    np.testing.assert_array_equal(found.label[there], found.probability[there].argmax(axis=1))
    alone = marginal_of(point, windows, withheld, drawn[1:], label)
    np.testing.assert_array_equal(alone.probability[2:4], found.probability[2:4])
