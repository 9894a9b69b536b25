"""Whether B0 and n0 of an event fit what was measured: sheets in balance, and some that are not what they should be."""

from __future__ import annotations

import numpy as np
import pytest

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.events import Event
from mms_regions.physics.scales import Scales, measured_scales

EVENTS = read_catalogue("rogers2023").events


def sheet(b0: float, n0: float, rate: float = 0.15, lobe: float = 0.1) -> dict[str, np.ndarray]:
    """A Harris sheet across +-3 widths: density n0 in its middle and `lobe` n0 outside, T from the balance of pressure.

    Speeds and fields from first principles, in SI.
    """
    z = np.linspace(-3, 3, 2001)
    n = n0 * ((1 - lobe) / np.cosh(z) ** 2 + lobe)
    mu_0, mass = 4e-7 * np.pi, 1.6726e-27
    temperature = (b0 * 1e-9) ** 2 / (2 * mu_0) / ((1 - lobe) * n0 * 1e6) / 1.602176634e-19  # eV, T_i + T_e
    v_a = b0 * 1e-9 / np.sqrt(mu_0 * n0 * 1e6 * mass)
    e_y = rate * v_a * b0 * 1e-9 * 1e3
    flat = np.ones(len(z))
    b = np.stack([b0 * np.tanh(z), 0 * z, 0 * z], axis=1)
    e = np.stack([0 * z, e_y * flat, 0 * z], axis=1)
    shares = {"ti_par": 5 / 6, "ti_perp": 5 / 6, "te_par": 1 / 6, "te_perp": 1 / 6}
    hot = {name: share * temperature * flat for name, share in shares.items()}
    return {name: x.astype(np.float32) for name, x in {"b_gsm": b, "e_gsm": e, "ni": n, "ne": n, **hot}.items()}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_sheet_in_balance_with_these_scales_raises_no_doubt(event: Event) -> None:
    found = measured_scales(sheet(event.B0, event.n0))
    assert found.lobe_field == pytest.approx(event.B0, rel=0.12)  # and the pressure of the lobe's plasma
    assert found.doubts(event.B0, event.n0) == ()


def test_the_reconnection_field_of_event_e_does_not_fit_its_scales() -> None:
    """Its B0 and n0 give B0 v_A = 2.98 mV/m, and 3.2 mV/m of reconnection field were measured."""
    (event,) = (event for event in EVENTS if event.name == "E")
    (doubt,) = Scales(electric_field=3.2).doubts(event.B0, event.n0)
    assert doubt == "E_y is 3.2 mV/m, 1.1 B0 v_A, but reconnection gives 0.1 to 0.2"
    assert measured_scales(sheet(event.B0, event.n0, rate=1.0)).electric_field == pytest.approx(2.98, abs=0.01)
    assert Scales(electric_field=0.2 * 2.98).doubts(event.B0, event.n0) == ()


@pytest.mark.parametrize(("factor", "said"), [(2.0, "B0 is 40 nT"), (0.5, "B0 is 10 nT")])
def test_a_wrong_field_is_told_from_the_balance_of_pressure(factor: float, said: str) -> None:
    doubts = measured_scales(sheet(20.0, 0.3)).doubts(20.0 * factor, 0.3)
    assert doubts[0].startswith(f"{said}, but pressure balance asks for a lobe field of 21")
    assert "T_i + T_e" in doubts[1], "which goes with the square of B0"


def test_the_density_of_the_inflow_in_the_place_of_that_of_the_sheet_is_told_from_the_temperature() -> None:
    found = measured_scales(sheet(20.0, 0.3))
    assert found.sheet_temperature == pytest.approx(3679, rel=0.01)
    assert found.doubts(20.0, 0.03) == ("B0 and n0 ask for T_i + T_e of 33,112 eV, but it is 3,679 eV",)


def test_what_was_not_measured_raises_no_doubt() -> None:
    missing = {name: np.full_like(values, np.nan) for name, values in sheet(20.0, 0.3).items()}
    assert measured_scales(missing) == Scales() and Scales().doubts(20.0, 0.3) == ()
    without_ions = measured_scales({**sheet(20.0, 0.3), "ti_par": np.full(2001, np.nan, np.float32)})
    assert (without_ions.lobe_field, without_ions.sheet_temperature) == (None, None)
    without_electrons = measured_scales({**sheet(20.0, 0.3), "te_par": np.full(2001, np.nan, np.float32)})
    assert without_electrons.doubts(20.0, 0.3) == (), "ions carry most of the pressure"
