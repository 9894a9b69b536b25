"""The identity of labels: what they follow from, and that what is not used leaves it as it has always been."""

from __future__ import annotations

import hashlib

import pytest

from mms_regions.store.labels import LabelIdentity

WEIGHTS = "ab" * 32


def test_labels_of_weights_alone_or_with_a_fraction_keep_the_identity_of_earlier_versions() -> None:
    assert LabelIdentity(WEIGHTS).sha256 == WEIGHTS
    assert LabelIdentity(WEIGHTS, 0.1).sha256 == hashlib.sha256(f"{WEIGHTS} 0.1".encode()).hexdigest()


@pytest.mark.parametrize("change", [{"perturb": 0.2}, {"temperature": 1.5}, {"draws": 8}, {"seed": 0}])
def test_whatever_labels_follow_from_changes_their_identity(change: dict[str, float]) -> None:
    assert LabelIdentity(WEIGHTS, **change).sha256 not in (WEIGHTS, LabelIdentity(WEIGHTS, 0.1).sha256)
