"""Fits the network of `curation.cuts.network` on labelled footage synthesised over real shots.

    python -m benchmarks.footage.bank --videos DIR [DIR ...] [--truth truth.json] [--stills DIR] --out bank.npz
    python benchmarks/fit_transitions.py bank.npz [--hold NAME ...] [--seconds 540] [--batch 128] [--seed 0]
                                         [--start network.npz] [--sheet SHEET.png] --out network.npz

Batches are synthesised on the device while it fits (`footage.joints`) and each is learnt from four times or so; nine
minutes on one H200 are enough. `--start` goes on from weights that this script wrote, and holds the fit to their
answers where those are right: what they learnt from footage that is not in this bank is kept. Files named with `--hold`
give no shot to the fit: the loss and the events of the report are on transitions between theirs, and
`benchmarks/transitions.py --weights` judges the weights on them in the cascade.
`--sheet` draws the first samples as a contact sheet: every fourth frame, a red bar over a hard cut, a green one below a
gradual transition. `@FILE` among the arguments reads some of them from a file, one a line.
"""

import argparse
import math
import random
import time
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.footage.joints import Labels, batch
from benchmarks.footage.shots import HEIGHT, WIDTH, Bank, Canvas, Shots, load
from curation.cuts.network import REACH, Network

FRAMES = 160  # of a sample
_BGR_TO_LUMA = [0.114, 0.587, 0.299]
_RATE, _DECAY, _WARM_UP = 2e-3, 1e-2, 200  # AdamW's learning rate and weight decay; steps of warming up
_RATE_ON = 7e-4  # the learning rate of a fit that goes on from weights
_CUT_WEIGHT, _POSITIVE = 2.0, 4.0  # of hard cuts in the loss, and of a cut against a frame that is none: they are rare
_FRESH, _POOL = (
    4,
    64,
)  # steps from one new batch to the next, and how many are kept to learn from: making one costs more
_JUDGED = 8  # batches that the report is on
_NEAR, _SHORTEST = 2, 3  # frames: how far off a cut may be told, and the least length of a gradual transition
_EQUAL = 1e-4  # log-odds by which the two implementations may differ


class TorchNetwork(nn.Module):
    """The network that `curation.cuts.network` runs without torch; the names of the weights are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 16, 3, 2, 1)
        self.t1 = _dilated(16, 8, (1, 2, 4, 8))
        self.c2 = nn.Conv2d(32, 32, 3, 2, 1)
        self.t2 = _dilated(32, 12, (1, 2, 4, 8, 16))
        self.c3 = nn.Conv2d(60, 48, 3, 2, 1)
        self.t3 = _dilated(48, 16, (1, 4, 8, 16))
        self.d1 = nn.Linear(64 * 12, 96)
        self.emb = nn.Linear(32 * 40, 32)
        self.sim = nn.Linear(2 * (2 * REACH + 1), 48)
        self.h1 = nn.Conv1d(96 + 48, 64, 5, padding=2)
        self.h2 = nn.Conv1d(64, 64, 5, padding=8, dilation=4)
        self.out = nn.Linear(64, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """Log-odds (b, t, 2) of a hard cut and of a gradual transition; pictures are BGR of 0 to 1, (b, t, c, h, w)."""
        b, t = pictures.shape[:2]
        luma = (pictures * torch.tensor(_BGR_TO_LUMA, device=pictures.device).view(3, 1, 1)).sum(2).flatten(2)
        luma = luma - luma.mean(-1, keepdim=True)
        y = F.relu(self.c1((pictures - 0.4).flatten(0, 1)))  # (b t, c, h, w), as all that follow
        y = F.relu(self.c2(_over_time(y, self.t1, b)))
        seen = self.emb(y.flatten(1)).view(b, t, -1)
        y = F.relu(self.c3(_over_time(y, self.t2, b)))
        y = F.relu(self.d1(_over_time(y, self.t3, b).flatten(1))).view(b, t, -1)
        bands = torch.cat([_band(_unit(seen, 1e-4)), _band(_unit(luma, 0.01))], -1)
        y = torch.cat([y, F.relu(self.sim(bands))], -1).transpose(1, 2)  # (b, c, t)
        return self.out(F.relu(self.h2(F.relu(self.h1(y)))).transpose(1, 2))


def _dilated(channels: int, out: int, dilations: tuple[int, ...]) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv1d(channels, out, 3, padding=d, dilation=d) for d in dilations)


def _over_time(x: Tensor, convolutions: nn.ModuleList, b: int) -> Tensor:
    """Convolutions over the frames of every pixel side by side, then ReLU: (b t, c, h, w) to (b t, c', h, w)."""
    n, c, h, w = x.shape
    y = x.view(b, n // b, c, h * w).permute(0, 3, 2, 1).reshape(b * h * w, c, n // b)
    y = F.relu(torch.cat([convolution(y) for convolution in convolutions], 1))
    return y.view(b, h * w, -1, n // b).permute(0, 3, 2, 1).reshape(n, -1, h, w)


def _unit(x: Tensor, least: float) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + least)


def _band(unit: Tensor) -> Tensor:
    """Products of each of (b, t, c) with its neighbours within `REACH`, 0 beyond the ends: (b, t, 2 REACH + 1)."""
    b, t, _ = unit.shape
    products = F.pad(unit @ unit.mT, (REACH, REACH))
    columns = torch.arange(t, device=unit.device)[:, None] + torch.arange(2 * REACH + 1, device=unit.device)
    return products.gather(2, columns.expand(b, -1, -1))


def loss_of(odds: Tensor, labels: Labels) -> Tensor:
    """Binary cross-entropy of both answers, means over the frames that count."""
    positive = torch.tensor(_POSITIVE, device=odds.device)
    entropy = F.binary_cross_entropy_with_logits
    cut = entropy(odds[..., 0], labels.cut.float(), pos_weight=positive, reduction="none")
    gradual = entropy(odds[..., 1], labels.gradual.float(), reduction="none")
    cut = (cut * labels.cut_counts).sum() / labels.cut_counts.sum()
    return _CUT_WEIGHT * cut + (gradual * labels.gradual_counts).sum() / labels.gradual_counts.sum()


def agreement(odds: Tensor, first: Tensor, labels: Labels) -> Tensor:
    """Cross-entropy with the answers (b, t, 2) of the first network, a mean over the frames where those are right."""
    answers = torch.stack([labels.cut, labels.gradual], -1)
    right = torch.stack([labels.cut_counts, labels.gradual_counts], -1) & ((first > 0) == answers)
    entropy = F.binary_cross_entropy_with_logits(odds, first.sigmoid(), reduction="none")
    weight = right * torch.tensor([_CUT_WEIGHT, 1.0], device=odds.device)
    return (entropy * weight).sum() / right.sum() * 2


def fit(shots: Shots, canvas: Canvas, seconds: float, start: TorchNetwork | None = None) -> TorchNetwork:
    """AdamW for so many seconds under half a cosine, then the moving average of the weights. From a network to `start`
    with it goes more slowly, and is held to its answers where they are right."""
    cuda = canvas.device.type == "cuda"
    network = TorchNetwork().to(canvas.device)
    rate = _RATE_ON if start else _RATE
    if start:
        network.load_state_dict(start.state_dict())
        start = start.to(canvas.device).requires_grad_(False)
    run = torch.compile(network) if cuda else network
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    average = {name: weight.clone() for name, weight in network.state_dict().items()}
    pool: deque[tuple[Tensor, Labels]] = deque(maxlen=_POOL)
    choice = random.Random(0)
    began, step, shown = time.monotonic(), 0, 0.0
    while (share := (time.monotonic() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, step / _WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
        if step % _FRESH == 0:
            pictures, labels = batch(shots, canvas)
            pool.append(((pictures * 255).round().byte(), labels))
        bytes_, labels = choice.choice(pool)
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            odds = run(bytes_.float() / 255)
            first = start(bytes_.float() / 255) if start else None
        loss = loss_of(odds.float(), labels)
        if first is not None:
            loss = loss + agreement(odds.float(), first.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            for name, weight in network.state_dict().items():
                average[name].lerp_(weight, 1 - min(0.999, step / (step + 19)))
        if share >= shown:
            print(f"step {step}, {share:.0%}: loss {loss.item():.4f}", flush=True)
            shown += 0.1
    network.load_state_dict(average)
    return network.eval()


@dataclass
class Count:
    """Events that were found, missed, and told of where there was none."""

    hit: int = 0
    missed: int = 0
    false: int = 0

    def __str__(self) -> str:
        return f"{self.hit} found, {self.missed} missed, {self.false} false"


def count(odds: np.ndarray, cut: np.ndarray, gradual: np.ndarray, cuts: Count, graduals: Count) -> None:
    """Add one sample's events to the counts: log-odds (t, 2) above 0 against labels (t,)."""
    peak = (odds[1:-1, 0] > 0) & (odds[1:-1, 0] >= odds[:-2, 0]) & (odds[1:-1, 0] > odds[2:, 0])
    told_cuts, true_cuts = (np.flatnonzero(peak) + 1).tolist(), np.flatnonzero(cut).tolist()
    hits = sum(_near(at, told_cuts) for at in true_cuts)
    cuts.hit += hits
    cuts.missed += len(true_cuts) - hits
    cuts.false += sum(not _near(at, true_cuts) and not gradual[at] for at in told_cuts)
    told = [(a + b) // 2 for a, b in _runs(odds[:, 1] > 0) if b - a >= _SHORTEST]
    true = _runs(gradual)
    hits = sum(any(a <= at < b for at in [*told, *told_cuts]) for a, b in true)
    graduals.hit += hits
    graduals.missed += len(true) - hits
    inside = [any(a - _NEAR <= at < b + _NEAR for a, b in true) for at in told]
    graduals.false += sum(not i and not _near(at, true_cuts) for at, i in zip(told, inside, strict=True))


def _near(at: int, others: list[int]) -> bool:
    return any(abs(at - other) <= _NEAR for other in others)


def _runs(on: np.ndarray) -> list[tuple[int, int]]:
    """First position and the one past the last of each run."""
    edges = np.flatnonzero(np.diff(on, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@torch.no_grad()
def report(title: str, network: TorchNetwork, shots: Shots, canvas: Canvas) -> None:
    """Print loss and events on fresh samples."""
    cuts, graduals, losses = Count(), Count(), []
    for _ in range(_JUDGED):
        pictures, labels = batch(shots, canvas)
        odds = network(pictures)
        losses.append(float(loss_of(odds, labels)))
        for one, cut, gradual in zip(odds.cpu().numpy(), labels.cut.cpu(), labels.gradual.cpu(), strict=True):
            count(one, cut.numpy(), gradual.numpy(), cuts, graduals)
    print(f"{title}: loss {np.mean(losses):.4f}; hard cuts {cuts}; gradual {graduals}", flush=True)


def halved(network: TorchNetwork) -> dict[str, np.ndarray]:
    """The weights as float16, once `curation.cuts.network` has given the same answers with them; AssertionError."""
    weights = {name: weight.cpu().numpy().astype(np.float16) for name, weight in network.state_dict().items()}
    same = TorchNetwork().eval()
    same.load_state_dict({name: torch.from_numpy(weight).float() for name, weight in weights.items()})
    pictures = np.random.default_rng(0).random((150, HEIGHT, WIDTH, 3), np.float32) * 255
    with torch.no_grad():
        expected = same(torch.from_numpy(pictures / 255).permute(0, 3, 1, 2)[None])[0].numpy()
    error = float(np.abs(Network(weights)(pictures) - expected).max())
    assert error < _EQUAL, f"curation.cuts.network differs by {error:.2g}"
    print(f"curation.cuts.network gives the same log-odds within {error:.1g}")
    return weights


def started(path: Path) -> TorchNetwork:
    """A network with the weights of a file that this script wrote."""
    network = TorchNetwork().eval()
    with np.load(path) as weights:
        network.load_state_dict({name: torch.from_numpy(weights[name]).float() for name in weights.files})
    return network


def contact_sheet(pictures: Tensor, labels: Labels) -> np.ndarray:
    """Every fourth frame of each sample in two rows, BGR uint8."""
    rows = []
    for sample, cut, gradual in zip(pictures.cpu(), labels.cut.cpu(), labels.gradual.cpu(), strict=True):
        tiles = []
        for i, j in pairwise(range(0, FRAMES + 1, 4)):
            picture = (sample[i].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            tile = cv2.resize(picture, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_NEAREST)
            tile[:3] = (0, 0, 255) if cut[i:j].any() else tile[:3]
            tile[-3:] = (0, 255, 0) if gradual[i] else tile[-3:]
            tiles.append(tile)
        half = len(tiles) // 2
        rows += [np.concatenate(tiles[:half], axis=1), np.concatenate(tiles[half:], axis=1)]
    return np.concatenate(rows)


def _shots(bank: Bank, names: set[str], device: str, samples: int, seed: int) -> tuple[Shots, Canvas]:
    canvas = Canvas(samples, FRAMES, torch.Generator(device).manual_seed(seed))
    return Shots(bank, names, device), canvas


def main() -> None:
    """Build the bank, fit, report and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, fromfile_prefix_chars="@"
    )
    parser.add_argument("bank", type=Path, help="shots, from benchmarks.footage.bank")
    parser.add_argument("--hold", nargs="*", default=[], metavar="NAME", help="files that the fit must not see")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--start", type=Path, metavar="NPZ", help="weights to go on from, and to hold to where right")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the footage")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the first samples, PNG")
    parser.add_argument("--out", type=Path, required=True, help="write the weights")
    args = parser.parse_args()
    if not args.bank.is_file():
        parser.error(f"no bank at {args.bank}: make one with python -m benchmarks.footage.bank")
    if args.start and not args.start.is_file():
        parser.error(f"no weights at {args.start}")
    bank = load(args.bank)
    hold = set(args.hold)
    if not bank.keys() > hold:
        parser.error(f"no shots of {sorted(hold - bank.keys())}" if hold - bank.keys() else "no shots are left to fit")
    fitted = bank.keys() - hold
    frames = sum(len(shot) for name in fitted for shot in bank[name])
    print(
        f"{len(fitted)} files, {sum(len(bank[n]) for n in fitted)} shots, {frames} frames; {len(hold)} files held out"
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    shots, canvas = _shots(bank, fitted, device, args.batch, seed=args.seed + 1)
    if args.sheet:
        few = Canvas(min(12, args.batch), FRAMES, torch.Generator(device).manual_seed(2))
        cv2.imwrite(str(args.sheet), contact_sheet(*batch(shots, few)))
    network = fit(shots, canvas, args.seconds, started(args.start) if args.start else None)
    for title, names in {"held out": hold, "fitted": fitted}.items():
        if names:
            report(title, network, *_shots(bank, names, device, min(args.batch, 32), seed=99))
    np.savez(args.out, allow_pickle=False, **halved(network))


if __name__ == "__main__":
    main()
