"""How well B0 and n0 are estimated from one interval, on layers in balance of known scales, and what labels make of it.

The estimator was designed on plain Harris sheets; here it meets two-dimensional layers with separatrices, cavities,
Hall and guide fields, whose temperature is what balances the pressure, and the noise of real instruments. Its errors
were chosen on crossings of the seed 17000; what is printed is of another one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from measure import machine, table
from numpy.typing import NDArray

from mms_regions.archive.products import DES, DIS, FGM
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.types import SECOND, Floats, Times
from mms_regions.model.card import find_model
from mms_regions.model.label import Prediction, as_windows, label_windows
from mms_regions.model.marginals import DrawnScales, drawn_factors, marginal_of
from mms_regions.model.network import RegionRNN
from mms_regions.model.scores import calibration
from mms_regions.model.stability import feature_factors
from mms_regions.model.weights import load_model
from mms_regions.physics.burst import SPECTRA, Burst, ElectricField, MagneticField, Moments
from mms_regions.physics.corrected import corrected_samples
from mms_regions.physics.estimated_scales import ScaleEstimate, estimate_scales
from mms_regions.physics.frames import gsm_to_gse
from mms_regions.physics.samples import Samples
from mms_regions.physics.scales import PRESSURE_UNIT
from mms_regions.store.relabel import DRAWS
from mms_regions.synthetic.crossing import Crossing, Swings, draw_crossing
from mms_regions.synthetic.instruments import ACCUMULATION, Arrays, Troubles, View, measured
from mms_regions.synthetic.layer import Plasma

SECONDS = (10, 45, 180)
CROSSINGS = 120
_EV = 1 / PRESSURE_UNIT  # eV cm^-3 of 1 nT^2 / 2 mu_0
_IONS = 5 / 6  # of the temperature
_SEED = 26_000  # 17000 is the set that errors were chosen on
_MODEL = "analytic-layer"
_START = np.datetime64("2017-07-11T10:34:00", "ns")


@dataclass(frozen=True)
class Balanced(Crossing):
    """A crossing of a layer whose temperature is what balances the pressure, but for slow changes of the latter."""

    lobe_beta: float = 0.03
    changes: Swings | None = None

    def plasma(self, probe: int, seconds: Floats) -> Plasma:
        found = super().plasma(probe, seconds)
        total = self.b0**2 * (1 + self.layer.guide_b**2) * (1 + self.lobe_beta)
        if self.changes is not None:
            total = total * (1 + self.changes.at(seconds)[0])
        field = (found.b**2).sum(axis=1)
        pressure = np.maximum(total - field, self.lobe_beta * self.b0**2) * _EV
        t = pressure / found.n
        return replace(found, t_i=_IONS * t, t_e=(1 - _IONS) * t)


@dataclass(frozen=True, eq=False)
class Case:
    """One interval: the truth, and what was estimated; None where that was refused for want of samples.

    features: (n, 14) with the layer's own scales. region: (n,) the truth of each sample.
    """

    b0: float
    n0: float  # cm^-3, the density in the middle of the sheet along the way
    own_n0: float  # cm^-3, of the layer: what networks are trained with
    found: ScaleEstimate | None
    features: Floats
    region: NDArray[np.int8]


def draw_case(number: int, seconds: int, kind: str) -> Case:
    """An interval of a crossing; kind: `any`, `core` (never near the lobe) or `lobe` (never near the sheet)."""
    rng = np.random.default_rng([_SEED, number, seconds])
    b0, n0 = float(np.exp(rng.uniform(np.log(9), np.log(30)))), float(np.exp(rng.uniform(np.log(0.1), np.log(1.0))))
    drawn = draw_crossing(_SEED + number, f"{kind}{seconds}", b0, n0)
    way = _moved(drawn.way, kind, drawn)
    rates = 2 * np.pi / rng.uniform(15, 90, (1, 3))
    changes = Swings(rng.uniform(0, 0.04, (1, 3)), rates, rng.uniform(0, 2 * np.pi, (1, 3)))
    parts = {f.name: getattr(drawn, f.name) for f in fields(drawn)} | {"way": way}
    crossing = Balanced(**parts, lobe_beta=float(rng.uniform(0.01, 0.08)), changes=changes)
    event = Event(
        name=f"X{number}", t_start=_START, t_end=_START + np.timedelta64(seconds, "s"), B0=crossing.b0, n0=crossing.n0
    )
    at = np.linspace(0, seconds, 20 * seconds)
    x, z = crossing.place(1, at)
    core = float(np.median(crossing.layer.plasma(x, np.zeros_like(z)).n)) * crossing.n0
    samples = samples_of(crossing, event)
    region = crossing.region(1, (samples.time - event.trange[0]) / SECOND)
    return Case(crossing.b0, core, crossing.n0, _estimated(samples), samples.features, region)


def _moved(way: Swings, kind: str, crossing: Crossing) -> Swings:
    """The same way, but in the core alone, or in the lobe alone."""
    if kind == "any":
        return way
    size, rate, phase = way.size.copy(), way.rate.copy(), way.phase.copy()
    if kind == "core":
        size[1] *= 0.5 * crossing.layer.width / size[1].sum()
        return Swings(size, rate, phase)
    size[1] *= 0.4 / size[1].sum()
    offset = np.array([[0.0], [crossing.layer.slope * np.abs(size[0]).sum() + 2.5]])  # a sine that stands still
    return Swings(
        np.hstack([size, offset]),
        np.hstack([rate, np.zeros((2, 1))]),
        np.hstack([phase, np.full((2, 1), np.pi / 2)]),
    )


def _estimated(samples: Samples) -> ScaleEstimate | None:
    try:
        return estimate_scales(samples.physics)
    except SegmentProblem:
        return None


def samples_of(crossing: Crossing, event: Event, troubles: Troubles | None = None) -> Samples:
    """The samples of the first spacecraft, without the way through CDF files."""
    begin, end = event.trange
    view = View(Segment(event, 1), crossing, _SEED, begin - SECOND, end + SECOND, troubles or Troubles())
    magnetic = measured(view, FGM)
    burst = Burst(
        probe=1,
        ions=_moments("dis", measured(view, DIS), ACCUMULATION[DIS.key]),
        electrons=_moments("des", measured(view, DES), ACCUMULATION[DES.key]),
        magnetic=MagneticField(
            magnetic["epoch"],
            _source(magnetic["epoch"]),
            (),
            np.where(magnetic["flag"][:, None] == 0, magnetic["b_gse"][:, :3], np.nan),
            magnetic["b_gse"][:, 3],
        ),
        electric=_electric(view),
        electric_fast=None,
        position_gse=np.array([-140_000.0, 20_000.0, 30_000.0]),
    )
    return corrected_samples(burst, event, 0.15)


def _electric(view: View) -> ElectricField:
    """E every millisecond, with the noise that a mean of 8 samples has: it is averaged over 30 ms anyhow."""
    time = np.arange(view.begin, view.end, SECOND // 1000)
    e_gsm = view.crossing.plasma(1, view.seconds(time)).e
    noise = view.crossing.noise.e / np.sqrt(8.192) * view.rng("e").normal(size=e_gsm.shape)
    return ElectricField(time, _source(time), (), gsm_to_gse(time, e_gsm) + noise, np.full(len(time), 3, np.uint8))


def _source(time: Times) -> np.ndarray:
    return np.zeros(len(time), np.int16)


def _moments(key: str, arrays: Arrays, accumulation: int) -> Moments:
    return Moments(
        time=arrays["epoch"],
        source=_source(arrays["epoch"]),
        files=(),
        accumulation=accumulation,
        n=arrays["numberdensity"],
        v_gse=arrays["bulkv_gse"],
        p_gse=arrays["prestensor_gse"],
        q_gse=arrays["heatq_gse"],
        t_par=arrays["temppara"],
        t_perp=arrays["tempperp"],
        error_flags=arrays["errorflags"].astype(np.uint32),
        energy=arrays["energy"],
        spectra={way: arrays[f"energyspectr_{way}"] for way in SPECTRA[key]},
        n_bg=arrays.get("numberdensity_bg"),
        p_bg=arrays.get("pres_bg"),
        n_err=arrays["numberdensity_err"],
    )


@dataclass(frozen=True)
class Score:
    """How estimates compare with the truth: median ratio, the errors that 68 % and 95 % stay within, coverage."""

    ratios: Floats
    sigmas: Floats  # relative

    def cells(self) -> list[str]:
        if not len(self.ratios):
            return ["0", "-", "-", "-", "-"]
        wrong = np.abs(np.log(self.ratios))
        within = [f"{np.expm1(np.quantile(wrong, share)):.0%}" for share in (0.68, 0.95)]
        bias, covered = np.exp(np.median(np.log(self.ratios))), (wrong < self.sigmas).mean()
        return [str(len(self.ratios)), f"{bias:.2f}", *within, f"{covered:.0%}"]


def scores(cases: list[Case]) -> dict[str, Score]:
    """B0, |B| q98, n0 that the estimator stands by, and n0 that it calls a guess."""
    found = [(case, case.found) for case in cases if case.found]
    groups = {
        "B0": [(e.b0 / c.b0, e.b0_sigma / e.b0) for c, e in found],
        "abs(B) q98": [(e.b_q98 / c.b0, 0.0) for c, e in found],
        "n0": [(e.n0 / c.n0, e.n0_sigma / e.n0) for c, e in found if e.n0 and e.n0_sigma and e.sheet_seen],
        "n0, of the layer": [
            (e.n0 / c.own_n0, e.n0_sigma / e.n0) for c, e in found if e.n0 and e.n0_sigma and e.sheet_seen
        ],
        "n0, weak": [(e.n0 / c.n0, e.n0_sigma / e.n0) for c, e in found if e.n0 and e.n0_sigma and not e.sheet_seen],
    }
    return {name: Score(*np.array(pairs).reshape(-1, 2).T) for name, pairs in groups.items()}


def labelled(cases: list[Case], network: RegionRNN) -> dict[str, list[str]]:
    """Labels of the same intervals with the layers' scales, with estimates, with draws: samples, right, sure, error."""
    seen: dict[str, list[tuple[Floats, Floats]]] = {}
    for number, case in enumerate(cases):
        for name, found in _predictions(case, f"X{number}/mms1", network).items():
            label, sure = found.label.reshape(-1)[: len(case.region)], found.probability.max(axis=2).reshape(-1)
            there = label >= 0
            seen.setdefault(name, []).append((sure[: len(label)][there], (label == case.region)[there]))
    rows = {}
    for name, parts in seen.items():
        sure, right = (np.concatenate(some) for some in zip(*parts, strict=True))
        error = calibration(sure, right)["expected_error"]
        rows[name] = [str(len(right)), f"{right.mean():.1%}", f"{sure.mean():.3f}", f"{error:.4f}"]
    return rows


def _predictions(case: Case, key: str, network: RegionRNN) -> dict[str, Prediction]:
    """By what features are scaled with; none where there is no n0."""
    found, windows = case.found, as_windows(case.features)
    if found is None or found.n0 is None or found.n0_sigma is None:
        return {}
    withheld = np.zeros(windows.shape[:2], bool)
    label = partial(label_windows, network)
    scaled = windows * feature_factors(found.b0 / case.b0, found.n0 / case.own_n0)
    point = label(scaled, withheld)
    factors = drawn_factors(key, found.b0_sigma / found.b0, found.n0_sigma / found.n0, DRAWS, 0)
    drawn = [DrawnScales(slice(0, len(windows)), factors)]
    return {
        "of the layer": label(windows, withheld),
        "estimated": point,
        f"estimated, {DRAWS} draws": marginal_of(point, scaled, withheld, drawn, label),
    }


def results(crossings: int = CROSSINGS) -> str:
    """The section of RESULTS.md."""
    rows, answers, network = [], [], load_model(find_model(_MODEL, {}))
    for kind, seconds in [*(("any", s) for s in SECONDS), ("core", 45), ("lobe", 45)]:
        cases = [draw_case(number, seconds, kind) for number in range(crossings)]
        if kind == "any":
            answers += [[f"{seconds}", name, *cells] for name, cells in labelled(cases, network).items()]
        without = sum(case.found is None or case.found.n0 is None for case in cases)
        for name, score in scores(cases).items():
            rows.append([kind, f"{seconds}", name, *score.cells(), f"{without}" if name == "n0" else ""])
    head = ["crossing", "s", "quantity", "cases", "bias", "68 % within", "95 % within", "one sigma covers"]
    return f"""## B0 and n0 estimated from one interval

`python benchmarks/scales.py`: {machine()}.
{crossings} crossings for each row, of two-dimensional layers whose temperature balances the pressure but for slow
changes of a few per cent and a lobe beta of 0.01 to 0.08, with the noise of real instruments; the estimator was
designed on Harris sheets. `core`: never far from the middle; `lobe`: never near the sheet. The truth of n0 is the
density in the middle of the sheet along the way; `n0, of the layer` compares the same estimates with the density that
the layer is normalised by, which networks are trained with. Sheets that are far from balance are not among them. Errors
were chosen on other crossings, of another seed.

{table([*head, "n0 refused"], rows)}

The same intervals labelled by `{_MODEL}`, features scaled by B0 and n0 of the layer, by the estimates, and by {DRAWS}
draws around them, whose mean probability it is. Promised: a calibration error of 0.01 at most, 2 points fewer right.

{table(["s", "B0 and n0", "samples", "right", "mean confidence", "calibration error"], answers)}
"""


if __name__ == "__main__":
    print(results(int(sys.argv[1]) if len(sys.argv) > 1 else CROSSINGS))
