"""What is unlike all regions is unfamiliar; about one in a hundred samples like them is, too."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from mms_regions.model.card import find_model
from mms_regions.model.familiarity import Familiarity, fit_familiarity


def samples(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (2 n, 14) of a lobe and of a sheet, and their regions."""
    rng = np.random.default_rng(seed)
    region = np.repeat(np.array([0, 1], np.int8), n)
    features = 0.1 * rng.normal(size=(2 * n, 14))
    features[:, 0] += np.where(region == 0, 1.0, 0.0)
    features[:, 6:8] = np.where(region == 0, 0.2, 1.0)[:, None] * np.exp(0.2 * rng.normal(size=(2 * n, 2)))
    return features.astype(np.float32), region


@pytest.fixture(scope="module")
def fitted() -> Familiarity:
    features, region = samples(4000, 1)
    return fit_familiarity(features, region, samples(4000, 2)[0], 2)


def test_one_in_a_hundred_usual_samples_is_unfamiliar(fitted: Familiarity) -> None:
    assert fitted.unfamiliar(samples(4000, 3)[0]).mean() == pytest.approx(0.01, abs=0.004)


def test_what_is_absurd_is_unfamiliar(fitted: Familiarity) -> None:
    usual = samples(200, 4)[0]
    dense, fast = usual.copy(), usual.copy()
    dense[:, 6:8], fast[:, 8:] = 5.0, 1000 * fast[:, 8:]
    for absurd in (0 * usual, dense, fast, np.full_like(usual, np.nan)):
        assert fitted.unfamiliar(absurd).mean() > 0.99


def test_windows_keep_their_shape(fitted: Familiarity) -> None:
    windows = samples(320, 5)[0].reshape(20, 32, 14)
    assert fitted.distance(windows).shape == (20, 32)
    np.testing.assert_array_equal(fitted.distance(windows)[3], fitted.distance(windows[3]))


def test_a_region_with_few_samples_is_refused() -> None:
    features, region = samples(100, 6)
    with pytest.raises(ValueError, match="region 1 has 5 samples"):
        fit_familiarity(features[:105], region[:105], features, 2)


def test_a_card_keeps_it_and_refuses_one_of_other_regions(fitted: Familiarity) -> None:
    card = find_model("analytic-layer", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card
    six = {"means": [fitted.means[0]] * 6, "whitening": [fitted.whitening[0]] * 6}
    made = type(card).model_validate({**card.model_dump(), "familiarity": {**fitted.model_dump(), **six}})
    assert type(card).model_validate_json(made.to_json()) == made
    with pytest.raises(ValidationError, match="familiarity must be of the same regions"):
        type(card).model_validate({**card.model_dump(), "familiarity": fitted.model_dump()})


def test_a_feature_out_of_the_range_of_training_is_unfamiliar_however_near_a_region_is(fitted: Familiarity) -> None:
    features = samples(1000, 7)[0]
    wide = fitted.model_copy(update={"threshold": 1e9})
    assert not wide.unfamiliar(np.clip(features, wide.low, wide.high)).any()
    features[:, 6] = 1.01 * fitted.high[6]
    assert wide.unfamiliar(features).all()
