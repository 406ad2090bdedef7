"""Memory and time of windows as views, against a bare loop over windows that were copied out one by one.

Memory: peak resident memory of scoring a series of 2 000 000 x 8 float32 (61 MiB) in windows of 64, stride 1, above an
interpreter that has imported deepad (and with it torch and Lightning), in multiples of the series. Time: seconds for the same windows, deepad divided
by the bare loop, taking turns in one process (below 1 is faster).

    python scripts/benchmark_series.py
"""

import argparse
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytorch_lightning as pl
import torch

from deepad import Scorer
from deepad.data import Series
from deepad.data.windows import StepRule
from deepad.detectors import DenseAutoencoder
from deepad.scoring.blocks import BLOCK
from deepad.scoring.steps import score_series

WINDOW, CHANNELS, MIB = 64, 8, 1 << 20
NETWORK = {"hidden_dims": (64,), "latent_dim": 8}


def waves(steps: int) -> np.ndarray:
    """Sines of several periods with noise (steps, CHANNELS)."""
    rng = np.random.default_rng(0)
    x = np.empty((steps, CHANNELS), np.float32)
    for start in range(0, steps, 10_000):  # in parts, so that making it takes no more memory than having it
        t = np.arange(start, min(start + 10_000, steps))[:, None]
        clean = np.sin(t / (20 + 7 * np.arange(CHANNELS)))
        x[start : start + 10_000] = clean + 0.1 * rng.normal(size=clean.shape)
    return x


PEAK = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"  # KiB


def in_child(*command: str) -> float:
    """Peak resident memory in MiB that a fresh process of Python reports."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) / 1024


def fitted(data: Series, epochs: int) -> tuple[DenseAutoencoder, list[float]]:
    """A detector and the seconds of each epoch after the first."""
    marks: list[float] = []
    watch = pl.callbacks.LambdaCallback(on_train_epoch_start=lambda *_: marks.append(time.perf_counter()),
                                        on_train_epoch_end=lambda *_: marks.append(time.perf_counter()))  # fmt: skip
    detector = DenseAutoencoder(data.shape, **NETWORK)
    with tempfile.TemporaryDirectory() as folder:
        pl.Trainer(max_epochs=epochs, default_root_dir=folder, callbacks=[watch], logger=False, enable_progress_bar=False,
                   enable_model_summary=False).fit(detector, data)  # fmt: skip
    return detector, list(np.diff(marks)[::2][1:])


def bare_epochs(data: Series, epochs: int) -> list[float]:
    """Seconds of each epoch of a bare loop over copied windows, after the first."""
    windows = torch.stack([data.splits.train[i] for i in range(len(data.splits.train))])
    detector, seconds = DenseAutoencoder(data.shape, **NETWORK), []
    detector.scaling.fit(windows.split(1024))
    optimizer = torch.optim.AdamW(detector.parameters(), 2e-3, fused=True)
    for _ in range(epochs):
        began = time.perf_counter()
        for batch in torch.randperm(len(windows)).split(data.batch_size):
            optimizer.zero_grad()
            detector.loss(windows[batch]).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def main(steps: int, epochs: int, child: str | None) -> None:
    """Print one line for each measure."""
    if child:
        scorer = Scorer.load(child)
        assert len(scorer(waves(steps))) == steps
        exec(PEAK)
        return
    data = Series(frames=waves(60_000), window_size=WINDOW, fit_until=0.9, batch_size=256)
    bare, ours = [], []
    for _ in range(3):
        detector, seconds = fitted(data, epochs)
        ours, bare = ours + seconds, bare + bare_epochs(data, epochs)
    ratio = np.sort(np.array(ours) / np.array(bare))
    print(f"training, seconds a window, deepad / bare: {np.median(ratio):.2f} (80 % of epochs {ratio[len(ratio) // 10]:.2f} "
          f"to {ratio[-1 - len(ratio) // 10]:.2f}; {np.median(ours) / len(data.splits.train) * 1e6:.1f} us a window)")  # fmt: skip
    series, ratios = waves(40_000), []
    copied = torch.from_numpy(np.stack([series[i : i + WINDOW] for i in range(len(series) - WINDOW + 1)]))
    for _ in range(5):
        began = time.perf_counter()
        score_series(detector, StepRule(WINDOW), series)
        middle = time.perf_counter()
        with torch.inference_mode():
            _ = [detector.contributions(batch).sum(2, dtype=torch.float64)[:, -1].numpy() for batch in copied.split(BLOCK)]
        ratios.append((middle - began) / (time.perf_counter() - middle))
    print(f"scoring, seconds a window, deepad / bare: {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    scorer = Scorer.calibrate(detector, [stretch.values for stretch in data.stretches("calibration")], steps="last")
    with tempfile.TemporaryDirectory() as folder:
        scorer.save(folder)
        peak, bare_peak, torch_peak = (in_child(__file__, "--steps", str(steps), "--child", folder),
                                       in_child("-c", f"from deepad import Scorer; {PEAK}"), in_child("-c", f"import torch; {PEAK}"))  # fmt: skip
    size, above = steps * CHANNELS * 4 / MIB, peak - bare_peak
    print(f"memory of scoring {steps} x {CHANNELS} ({size:.0f} MiB): peak {above:.0f} MiB above deepad loaded = {above / size:.2f} x "
          f"the series (torch alone {torch_peak:.0f} MiB, deepad with Lightning {bare_peak:.0f} MiB)")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    main(**vars(parser.parse_args()))
