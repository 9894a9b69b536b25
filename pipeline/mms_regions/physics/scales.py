"""Whether an event's B0 and n0 fit what was measured in it: pressure balance, temperature, and electric field.

In a sheet in balance B^2/2mu0 + n k (T_i + T_e) is everywhere what B^2/2mu0 is in the lobe. So the measured sum says
which lobe field B0 should be, and B0^2/(2 mu0 n0 k) which temperature the sheet should have. Reconnection gives
E_y = 0.1 to 0.2 B0 v_A (Cassak et al. 2017, doi 10.1017/S0022377817000666).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mms_regions.core.types import Floats
from mms_regions.physics.formulas import alfven_speed

FIELD_FACTOR, TEMPERATURE_FACTOR, LARGEST_RATE = 1.5, 2.0, 0.5  # beyond these B0 and n0 are doubtful
PRESSURE_UNIT = 0.40267  # nT^2 of 1 eV cm^-3: 2 mu_0 e


@dataclass(frozen=True)
class Scales:
    """What the samples of a segment say of its scales; None where too little was measured.

    lobe_field: nT, median of the field that balances the pressure. sheet_temperature: eV, T_i + T_e where plasma
    pressure exceeds that of the field, weighted with the density. electric_field: mV/m, median of E_y, GSM.
    """

    lobe_field: float | None = None
    sheet_temperature: float | None = None
    electric_field: float | None = None

    def doubts(self, b0: float, n0: float) -> tuple[str, ...]:
        """Sentences on what does not fit an event of B0 (nT) and n0 (cm^-3); none where all that is known fits."""
        implied, field = b0**2 / n0 / PRESSURE_UNIT, b0 * float(alfven_speed(b0, n0)) * 1e-3
        found = []
        if self.lobe_field is not None and _differ(b0, self.lobe_field, FIELD_FACTOR):
            found.append(f"B0 is {b0:.3g} nT, but pressure balance asks for a lobe field of {self.lobe_field:.3g} nT")
        if self.sheet_temperature is not None and _differ(implied, self.sheet_temperature, TEMPERATURE_FACTOR):
            found.append(
                f"B0 and n0 ask for T_i + T_e of {implied:,.0f} eV, but it is {self.sheet_temperature:,.0f} eV"
            )
        if self.electric_field is not None and abs(self.electric_field) > LARGEST_RATE * field:
            rate = abs(self.electric_field) / field
            found.append(f"E_y is {self.electric_field:.3g} mV/m, {rate:.2g} B0 v_A, but reconnection gives 0.1 to 0.2")
        return tuple(found)


def measured_scales(physics: Mapping[str, Floats]) -> Scales:
    """The scales of a segment, from its quantities at electron times (`samples.QUANTITIES`)."""
    pressure = _pressure(physics, "i")
    electrons = _pressure(physics, "e")
    total = pressure + np.where(np.isfinite(electrons), electrons, 0)  # a few of ten per cent of the pressure
    field = (physics["b_gsm"].astype(np.float64) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore"):
        sheet = np.isfinite(total) & (PRESSURE_UNIT * total > field) & (physics["ni"] > 0)
    density = physics["ni"][sheet].sum(dtype=np.float64)
    return Scales(
        _median(np.sqrt(np.maximum(field + PRESSURE_UNIT * total, 0))),
        float(total[sheet].sum() / density) if density > 0 else None,
        _median(physics["e_gsm"][:, 1].astype(np.float64)),
    )


def _pressure(physics: Mapping[str, Floats], species: str) -> Floats:
    """(n,) eV cm^-3."""
    t_par, t_perp = (physics[f"t{species}_{name}"].astype(np.float64) for name in ("par", "perp"))
    pressure: Floats = physics[f"n{species}"] * (t_par + 2 * t_perp) / 3
    return pressure


def _median(values: Floats) -> float | None:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if there.size else None


def _differ(one: float, other: float, factor: float) -> bool:
    return not other / factor <= one <= other * factor
