"""The network that is fitted, its events, and a fit from pictures whose cuts anyone can see."""

import shutil

import cv2
import numpy as np
import pytest
import torch

from benchmarks.fit_transitions import (
    Count,
    TorchNetwork,
    agreement,
    count,
    fit,
    halved,
    loss_of,
    main,
    report,
    started,
)
from benchmarks.footage.bank import main as make_bank
from benchmarks.footage.joints import Labels
from benchmarks.footage.shots import Canvas, Shots, save
from curation.cuts.network import Network, fitted


def test_the_two_implementations_agree_on_the_packaged_weights() -> None:
    network = TorchNetwork().eval()
    weights = fitted()._w
    network.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    pictures = np.random.default_rng(1).random((90, 18, 32, 3), np.float32) * 255
    with torch.no_grad():
        odds = network(torch.from_numpy(pictures / 255).permute(0, 3, 1, 2)[None])[0].numpy()
    np.testing.assert_allclose(odds, fitted()(pictures), atol=1e-4)


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    network = TorchNetwork().eval()
    pictures = torch.rand(3, 50, 3, 18, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = network(pictures), torch.cat([network(p[None]) for p in pictures])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_weights_that_the_other_network_reads_otherwise_are_refused(monkeypatch) -> None:
    network = TorchNetwork()
    weights = halved(network)
    assert {w.dtype for w in weights.values()} == {np.dtype(np.float16)}
    assert weights.keys() == fitted()._w.keys()
    monkeypatch.setattr("benchmarks.fit_transitions.Network", lambda w: lambda x: Network(w)(x) + 0.001)
    with pytest.raises(AssertionError, match="differs by 0.001"):
        halved(network)


def test_frames_that_do_not_count_change_no_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    cut, gradual, counts = (torch.rand(2, 30, generator=generator) < 0.3 for _ in range(3))
    odds = torch.randn(2, 30, 2, generator=generator)
    labels = Labels(cut, gradual, counts, counts)
    expected = loss_of(odds, labels)
    odds[~counts] = 9.0
    assert loss_of(odds, labels) == expected
    other = Labels(cut ^ ~counts, gradual, counts, counts)
    assert loss_of(odds, other) == expected
    # by hand: softplus terms over the frames that count, a cut four times, hard cuts twice
    z = odds[counts].double()
    c, g = cut[counts].double(), gradual[counts].double()
    soft = torch.nn.functional.softplus
    by_hand = 2 * (4 * c * soft(-z[:, 0]) + (1 - c) * soft(z[:, 0])).mean()
    by_hand += (g * soft(-z[:, 1]) + (1 - g) * soft(z[:, 1])).mean()
    assert expected.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_fit_is_held_to_the_first_answers_only_where_they_are_right() -> None:
    cut, gradual = torch.tensor([[True, False, False, False]]), torch.tensor([[False, False, True, True]])
    counts = torch.tensor([[True, True, True, False]])
    first = torch.tensor([[[2.0, -1.0], [1.0, -1.0], [-3.0, 0.5], [-3.0, 4.0]]])  # wrong: a cut in the second
    odds = torch.tensor([[[0.3, 0.2], [9.0, -2.0], [1.0, 0.1], [9.0, 9.0]]], requires_grad=True)
    labels = Labels(cut, gradual, counts, counts)
    agreement(odds, first, labels).backward()
    pulled = odds.grad != 0
    assert pulled.tolist() == [[[True, True], [False, True], [True, True], [False, False]]]
    # the least that it can be is the entropy of the first answers
    same = agreement(first, first, labels)
    assert all(agreement(first + shift, first, labels) > same for shift in (-0.5, 0.5))


@pytest.mark.parametrize(
    ("cuts", "graduals", "expected"),
    [
        ([20], [(40, 60)], ((1, 0, 0), (1, 0, 0))),
        ([22], [(45, 58)], ((1, 0, 0), (1, 0, 0))),
        ([23], [], ((0, 1, 1), (0, 1, 0))),
        ([20, 50], [], ((1, 0, 0), (1, 0, 0))),  # a cut told in a gradual transition finds it
        ([20], [(40, 60), (70, 80)], ((1, 0, 0), (1, 0, 1))),
        ([20], [(70, 72), (40, 60)], ((1, 0, 0), (1, 0, 0))),  # two frames are no gradual transition
        ([], [(15, 25)], ((0, 1, 0), (0, 1, 0))),  # told of a cut as a gradual transition: missed, but not false
    ],
)
def test_events(cuts: list[int], graduals: list[tuple[int, int]], expected: tuple) -> None:
    odds = np.full((100, 2), -3.0)
    odds[cuts, 0] = 2
    for a, b in graduals:
        odds[a:b, 1] = 1
    cut, gradual = np.zeros(100, bool), np.zeros(100, bool)
    cut[20], gradual[40:60] = True, True
    hard, soft = Count(), Count()
    count(odds, cut, gradual, hard, soft)
    assert (hard, soft) == (Count(*expected[0]), Count(*expected[1]))


def test_a_short_fit_ends_with_finite_weights(capsys) -> None:
    rng = np.random.default_rng(0)
    bank = {str(i): [rng.integers(0, 256, (30, 36, 64, 3), np.uint8)] for i in range(3)}
    shots = Shots(bank, bank, "cpu")
    small = Canvas(2, 60, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    before = {name: weight.clone() for name, weight in TorchNetwork().state_dict().items()}
    torch.manual_seed(0)
    network = fit(shots, small, seconds=2)
    assert all(torch.isfinite(weight).all() for weight in network.state_dict().values())
    assert not torch.equal(network.out.bias, before["out.bias"])
    again = fit(shots, small, seconds=1, start=network)
    assert not torch.equal(again.out.bias, network.out.bias)
    torch.testing.assert_close(again.c1.weight, network.c1.weight, atol=0.05, rtol=0)
    report("these", network, shots, small)
    assert "these: loss" in capsys.readouterr().out


@pytest.mark.needs_videos
def test_from_footage_to_weights(shared_videos, tmp_path, monkeypatch, capsys) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("bikes.mp4", "nasa_dissolve.mp4", "truth.json"):
        shutil.copyfile(shared_videos / name, videos / name)
    bank = str(tmp_path / "bank.npz")
    monkeypatch.setattr("sys.argv", ["bank", "--videos", str(videos), "--out", bank])
    make_bank()
    (tmp_path / "held").write_text("--hold\nbikes.mp4\n")
    arguments = [bank, f"@{tmp_path / 'held'}", "--seconds", "1", "--batch", "2"]
    arguments += ["--sheet", str(tmp_path / "sheet.png"), "--out", str(tmp_path / "network.npz")]
    monkeypatch.setattr("sys.argv", ["fit_transitions.py", *arguments])
    main()
    assert "held out: loss" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (2 * 2 * 36, 20 * 64, 3)
    assert sum(w.numel() for w in started(tmp_path / "network.npz").state_dict().values()) > 200_000
    with np.load(tmp_path / "network.npz") as weights:
        odds = Network(dict(weights))(np.zeros((50, 18, 32, 3), np.float32))
    assert odds.shape == (50, 2)
    assert np.isfinite(odds).all()


def test_a_file_without_shots_cannot_be_held_out(tmp_path, monkeypatch, capsys) -> None:
    save({"b.mp4": [np.zeros((20, 36, 64, 3), np.uint8)]}, tmp_path / "bank.npz")
    monkeypatch.setattr("sys.argv", ["fit", str(tmp_path / "bank.npz"), "--hold", "a.mp4", "--out", "o.npz"])
    with pytest.raises(SystemExit):
        main()
    assert "no shots of ['a.mp4']" in capsys.readouterr().err


def test_a_bank_that_is_not_there_is_named(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["fit", str(tmp_path / "bank.npz"), "--out", "o.npz"])
    with pytest.raises(SystemExit):
        main()
    assert "no bank at" in capsys.readouterr().err
