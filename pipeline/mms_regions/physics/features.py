"""The 14 features of the network: scaled by B0 and n0, in the axes of the simulation that it was trained on."""

from __future__ import annotations

import numpy as np

from mms_regions.core.types import Floats
from mms_regions.physics.formulas import alfven_speed

ION_TO_ELECTRON_MASS = 1836.0


def scaled_features(
    b_gsm: Floats, e_gsm: Floats, n_i: Floats, n_e: Floats, v_i_gsm: Floats, v_e_gsm: Floats, b0: float, n0: float
) -> Floats:
    """(n, 14) float32, dimensionless, columns `samples.FEATURES`.

    b_gsm in nT, e_gsm in mV/m, n in cm^-3, v in km/s, all vectors (n, 3) in GSM; b0 in nT, n0 in cm^-3. B/B0, n/n0,
    v/v_A, E/(B0 v_A), and the electron velocity in electron Alfven speeds, v_e / (v_A sqrt(1836)) (Waters et al. 2025).
    """
    v_a = alfven_speed(b0, n0)
    columns = [
        simulation_axes(b_gsm / b0),
        simulation_axes(e_gsm / (b0 * v_a * 1e-3)),
        (n_i / n0)[:, None],
        (n_e / n0)[:, None],
        simulation_axes(v_i_gsm / v_a),
        simulation_axes(v_e_gsm / (v_a * np.sqrt(ION_TO_ELECTRON_MASS))),
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def simulation_axes(gsm: Floats) -> Floats:
    """(n, 3): (x, y, z) of the simulation is (x, -z, y) of GSM."""
    return np.stack([gsm[:, 0], -gsm[:, 2], gsm[:, 1]], axis=1)
