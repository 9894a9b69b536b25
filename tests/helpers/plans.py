"""Plans of made-up events of any length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from mms_regions.core.catalogue import Catalogue
from mms_regions.core.events import Event
from mms_regions.store.plan import Plan, make_plan

DECIDING = {"convention": "corrected", "margin": 1.0, "bridge": 0.15}
START = np.datetime64("2017-07-11T22:34:00", "ns")

# Around a quarter of the smallest shard (256 samples: 7.6 s), around a whole one (30.6 s), and much longer ones.
seconds = st.one_of(st.floats(0.01, 10), st.floats(7.5, 7.8), st.floats(29, 31), st.floats(31, 900))
shard_sizes = st.sampled_from([1024, 4096, 65536])


def plan_of(lengths: Sequence[float], shard_samples: int = 1024, probes: tuple[int, ...] = (1,)) -> Plan:
    events = [
        Event(
            name=f"E{i}",
            t_start=START,
            t_end=START + np.timedelta64(round(s * 1e9), "ns"),
            B0=20,
            n0=0.2,
            probes=probes,
        )
        for i, s in enumerate(lengths)
    ]
    catalogue = Catalogue("made-up", tuple(events))
    return make_plan(catalogue, catalogue.segments(), shard_samples, DECIDING)
