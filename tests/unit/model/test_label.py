"""Labelling in blocks gives what one window at a time gives, and never calls a region what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy_rnn import probabilities

from mms_regions.core.errors import EnvironmentProblem, InputProblem, UsageProblem
from mms_regions.model.label import Prediction, as_windows, choose_device, label_windows, steady_arithmetic
from mms_regions.model.network import RegionRNN


def seeded_model(seed: int = 0) -> RegionRNN:
    """Random weights, twice as large as torch makes them, so that all regions and clear answers occur."""
    random = torch.Generator().manual_seed(seed)
    model = RegionRNN()
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3, generator=random)
    return model


MODEL = seeded_model()
WEIGHTS = {name: tensor.numpy().astype(np.float64) for name, tensor in MODEL.state_dict().items()}


def some_features(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.5, (n, 14)).astype(np.float32)


@st.composite
def events(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """An event's (n, 14) features with values missing anywhere, and which of its samples are withheld."""
    n = draw(st.integers(1, 150))
    features = some_features(n, draw(st.integers(0, 999)))
    for row in draw(st.sets(st.integers(0, n - 1), max_size=4)):
        features[row, draw(st.integers(0, 13))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    withheld = np.zeros(n, dtype=bool)
    withheld[list(draw(st.sets(st.integers(0, n - 1), max_size=8)))] = True
    return features, withheld


def labelled(features: np.ndarray, withheld: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, 6) of an event, through windows."""
    windows = as_windows(features)
    flags = np.zeros(windows.shape[0] * 32, dtype=bool)
    flags[: len(withheld)] = withheld
    prediction = label_windows(MODEL, windows, flags.reshape(-1, 32))
    return prediction.label.reshape(-1)[: len(features)], prediction.probability.reshape(-1, 6)[: len(features)]


def runs_without_gaps(features: np.ndarray) -> list[slice]:
    """Of each 32 consecutive samples, those before the first with a missing value."""
    runs = []
    for start in range(0, len(features), 32):
        gone = np.flatnonzero(~np.isfinite(features[start : start + 32]).all(axis=1))
        runs.append(slice(start, start + int(gone[0]) if len(gone) else min(start + 32, len(features))))
    return runs


def assert_agree(
    label: np.ndarray, probability: np.ndarray, expected: np.ndarray, *, largest: float = 1e-5, closest: float = 1e-5
) -> None:
    """Probabilities differ by `largest` at most, labels only where two logits are as close as `closest`."""
    np.testing.assert_allclose(probability, expected, atol=largest, rtol=0)
    second, first = np.sort(expected, axis=1)[:, -2:].T
    clear = np.log(first) - np.log(second) >= closest
    np.testing.assert_array_equal(label[clear], expected.argmax(axis=1)[clear])


@settings(max_examples=30)
@given(events())
def test_blocks_give_what_torch_gives_window_by_window(event: tuple[np.ndarray, np.ndarray]) -> None:
    features, withheld = event
    label, probability = labelled(features, withheld)
    known = np.zeros(len(features), dtype=bool)
    for run in runs_without_gaps(features):
        known[run] = ~withheld[run]
        if run.start < run.stop:
            with torch.no_grad():
                expected = MODEL(torch.from_numpy(features[run])[None])[0].softmax(dim=1).numpy()
            assert_agree(label[run][known[run]], probability[run][known[run]], expected[known[run]])
    assert (label[~known] == -1).all()
    assert np.isnan(probability[~known]).all()


@settings(max_examples=10)
@given(events())
def test_an_independent_network_in_numpy_agrees(event: tuple[np.ndarray, np.ndarray]) -> None:
    features, _ = event
    label, probability = labelled(features, np.zeros(len(features), dtype=bool))
    for run in runs_without_gaps(features):
        if run.start < run.stop:
            assert_agree(label[run], probability[run], probabilities(WEIGHTS, features[run]))


def test_the_random_weights_reach_every_region() -> None:
    label, _ = labelled(some_features(2000, 1), np.zeros(2000, dtype=bool))
    assert set(label) == set(range(6))


def bits(prediction: Prediction) -> bytes:
    return prediction.label.tobytes() + prediction.probability.tobytes()


@settings(max_examples=10)
@given(st.integers(0, 999), st.integers(1, 2500), st.integers(1, 40))
@example(seed=0, count=1500, chosen=1)  # a lone window is where torch takes another way
def test_a_window_does_not_depend_on_its_company(seed: int, count: int, chosen: int) -> None:
    windows = some_features(count * 32, seed).reshape(count, 32, 14)
    windows[np.random.default_rng(seed).random(windows.shape) < 1e-3] = np.nan
    withheld = np.zeros((count, 32), dtype=bool)
    everything = label_windows(MODEL, windows, withheld)
    some = np.random.default_rng(seed).permutation(count)[:chosen]
    alone = label_windows(MODEL, windows[some], withheld[some])
    assert bits(alone) == bits(Prediction(everything.label[some], everything.probability[some]))


def test_labels_are_those_of_plain_torch_where_the_answer_is_clear() -> None:
    windows = some_features(32 * 8000, 7).reshape(-1, 32, 14)
    prediction = label_windows(MODEL, windows, np.zeros(windows.shape[:2], dtype=bool))
    with steady_arithmetic(), torch.no_grad():
        logits = torch.cat([MODEL(some) for some in torch.from_numpy(windows).split(2000)])
    second, first = logits.topk(2).values.flip(2).unbind(2)
    clear = (first - second >= 1e-5).numpy()
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(prediction.label[clear], logits.argmax(2).numpy()[clear])
    np.testing.assert_allclose(prediction.probability, logits.softmax(2).numpy(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bit(threads: int) -> None:
    windows = some_features(32 * 5000, 8).reshape(-1, 32, 14)
    windows[np.random.default_rng(0).random(windows.shape) < 1e-4] = np.nan
    withheld = np.random.default_rng(1).random(windows.shape[:2]) < 0.01
    found, before = set(), torch.get_num_threads()
    try:
        for several in (1, threads):
            torch.set_num_threads(several)
            found.add(bits(label_windows(MODEL, windows, withheld)))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


class Narrow(RegionRNN):
    """The model of these tests on a GPU that has memory for so many windows at once."""

    def __init__(self, room: int):
        super().__init__()
        self.load_state_dict(MODEL.state_dict())
        self.room, self.seen = room, list[int]()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(features))
        if len(features) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(features)


A_GPU = "cpu:0"  # another name of the CPU, which is not held to blocks of one size


@pytest.mark.parametrize(("count", "tried"), [(1, [1024, 512]), (300, [1024, 512]), (1100, [2048, 1024, 512])])
def test_a_gpu_without_memory_for_a_block_halves_it_goes_on_and_says_so(
    count: int, tried: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    windows = some_features(count * 32, 1).reshape(count, 32, 14)
    withheld = np.zeros((count, 32), dtype=bool)
    narrow = Narrow(room=300)
    there = label_windows(narrow, windows, withheld, A_GPU)
    here = label_windows(MODEL, windows, withheld)
    assert_agree(there.label.reshape(-1), there.probability.reshape(-1, 6), here.probability.reshape(-1, 6))
    assert narrow.seen == tried + [256] * -(-count // 256)
    assert [record.getMessage() for record in caplog.records] == [
        f"The GPU has no memory for {block} windows at once; going on with {block // 2}." for block in tried
    ]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1024]), (65_536, [65_536]), (65_537, [33_792] * 2)])
def test_a_gpu_gets_large_blocks_of_about_one_size(count: int, sizes: list[int]) -> None:
    wide = Narrow(room=65_536)
    windows = np.zeros((count, 1, 14), dtype=np.float32)
    found = label_windows(wide, windows, np.zeros((count, 1), dtype=bool), A_GPU)
    assert found.label.shape == (count, 1) and wide.seen == sizes


def test_a_gpu_without_memory_for_a_single_window_is_an_error() -> None:
    with pytest.raises(EnvironmentProblem, match="no memory left for a single window"):
        label_windows(Narrow(room=0), some_features(32, 1).reshape(1, 32, 14), np.zeros((1, 32), dtype=bool), A_GPU)


def test_on_the_cpu_blocks_keep_their_size() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        label_windows(Narrow(room=300), some_features(32, 1).reshape(1, 32, 14), np.zeros((1, 32), dtype=bool))


def test_a_withheld_sample_still_moves_the_state() -> None:
    windows = some_features(32, 5).reshape(1, 32, 14)
    withheld = np.arange(32)[None] == 10
    kept = label_windows(MODEL, windows, withheld)
    whole = label_windows(MODEL, windows, np.zeros((1, 32), dtype=bool))
    assert kept.label[0, 10] == -1
    np.testing.assert_array_equal(kept.probability[~withheld], whole.probability[~withheld])


def test_equal_probabilities_go_to_the_lower_index() -> None:
    model = seeded_model()
    torch.nn.init.zeros_(model.fc.weight)
    model.fc.bias.data = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    prediction = label_windows(model, some_features(32, 0).reshape(1, 32, 14), np.zeros((1, 32), dtype=bool))
    assert (prediction.label == 1).all()


def test_finite_features_without_a_finite_answer_are_an_error() -> None:
    class Breaking(RegionRNN):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return super().forward(features).masked_fill(features[:, :, :1] > 1e3, torch.nan)

    windows = np.zeros((3, 32, 14), dtype=np.float32)
    windows[2, 7] = 1e30
    with pytest.raises(InputProblem, match=r"1 sample .* sample 7 of window 2"):
        label_windows(Breaking(), windows, np.zeros((3, 32), dtype=bool))
    assert label_windows(Breaking(), windows, windows[:, :, 0] > 1e3).label[2, 7] == -1


def test_nothing_in_nothing_out() -> None:
    windows = as_windows(np.empty((0, 14), dtype=np.float32))
    assert label_windows(MODEL, windows, np.zeros((0, 32), dtype=bool)).label.shape == (0, 32)


def test_threads_and_precision_are_as_before_the_call() -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    seen = []

    class Watching(RegionRNN):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            now = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
            seen.append(now)
            return super().forward(features)

    try:
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        label_windows(Watching(), some_features(32, 0).reshape(1, 32, 14), np.zeros((1, 32), dtype=bool))
        after = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.allow_tf32 = before[2]
    assert seen == [(1, "highest", False)]
    assert after == (2, "high", True)


@given(st.integers(0, 100))
def test_windows_hold_the_samples_in_order_and_nan_behind(n: int) -> None:
    features = some_features(n, n)
    windows = as_windows(features)
    assert windows.shape == (-(-n // 32), 32, 14)
    np.testing.assert_array_equal(windows.reshape(-1, 14)[:n], features)
    assert np.isnan(windows.reshape(-1, 14)[n:]).all()


def test_the_device_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [choose_device(word) for word in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [choose_device(word) for word in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(EnvironmentProblem, match="No GPU"):
        choose_device("cuda")
    with pytest.raises(UsageProblem, match="'gpu'"):
        choose_device("gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
def test_a_gpu_agrees_with_the_cpu() -> None:
    windows = some_features(32 * 1500, 3).reshape(-1, 32, 14)
    withheld = np.zeros(windows.shape[:2], dtype=bool)
    on_gpu = label_windows(seeded_model(), windows, withheld, device="cuda")
    expected = label_windows(MODEL, windows, withheld).probability.reshape(-1, 6)
    label, probability = on_gpu.label.reshape(-1), on_gpu.probability.reshape(-1, 6)
    assert_agree(label, probability, expected, largest=2e-4, closest=1e-3)  # TF32 would differ by 1e-3


LABEL = np.array([[0, -1]], dtype=np.int8)
PROBABILITY = np.array([[[1, 0, 0, 0, 0, 0], [np.nan] * 6]], dtype=np.float32)


@pytest.mark.parametrize(
    ("label", "probability", "complaint"),
    [
        (LABEL.astype(int), PROBABILITY, "int8"),
        (LABEL[0], PROBABILITY, r"\(W, T\)"),
        (LABEL, PROBABILITY[:, :1], r"\(W, T, C\)"),
        (LABEL + np.int8(6), PROBABILITY, "0 to 5"),
        (LABEL[:, ::-1], PROBABILITY, "finite where there is a label"),
        (LABEL, np.nan_to_num(PROBABILITY), "NaN where there is none"),
        (LABEL, np.where(np.isnan(PROBABILITY), np.float32(np.inf), PROBABILITY), "NaN where there is none"),
    ],
)
def test_a_prediction_checks_itself(label: np.ndarray, probability: np.ndarray, complaint: str) -> None:
    assert Prediction(LABEL, PROBABILITY)
    with pytest.raises(ValueError, match=complaint):
        Prediction(label, probability)


def test_shapes_that_do_not_match_are_refused() -> None:
    windows = np.zeros((2, 32, 14), dtype=np.float32)
    with pytest.raises(ValueError, match=r"withheld \(W, T\)"):
        label_windows(MODEL, windows, np.zeros((2, 31), dtype=bool))
    with pytest.raises(ValueError, match=r"windows are \(W, T, 14\)"):
        label_windows(MODEL, windows[:, :, :13], np.zeros((2, 32), dtype=bool))
    with pytest.raises(ValueError, match=r"\(n, 14\)"):
        as_windows(np.zeros((5, 13)))
