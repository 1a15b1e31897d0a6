"""Every system samples by its name."""

import numpy as np
import pytest
from PIL import Image

from tests.training.conftest import write_video
from training.config import SampleConfig
from training.draw import draw_of, from_noise, made_anew, moved, together
from training.names import SampleSystem, Stage, SystemName
from training.sample import run_sample
from training.source import read_source
from training.stages import run_stage


@pytest.fixture
def strip(tmp_path):
    """The frames that a configuration gives, (t, h, w, 3)."""

    def run(checkpoint, steps=3, **fields):
        config = SampleConfig(
            checkpoint=checkpoint, out=str(tmp_path / "clip"), steps=steps, device="cpu", enlarge=1, fps=6.0, **fields
        )
        (result,) = run_sample(config)
        row = np.asarray(Image.open(result.strip))
        return row.reshape(12, result.frames, 16, 3).swapaxes(0, 1)

    return run


@pytest.fixture
def videos(footage):
    return [row["uri"] for row in footage.rows[::2]]


@pytest.mark.parametrize("system", [s for s in SystemName if s != SystemName.control_video])
def test_a_system_that_was_trained_by_its_name_samples(trained, strip, videos, system):
    video = trained(system)[Stage.video_pretrain]
    source = {"source": videos[0]} if system.edits else {}
    frames = strip(video, prompts=["a red square"], **source)
    assert frames.shape == (3, 12, 16, 3)
    assert not np.array_equal(frames, strip(video, prompts=["a blue square"], **source))
    if source:
        assert not np.array_equal(frames, strip(video, prompts=["a red square"], source=videos[1]))


@pytest.mark.parametrize("formulation", ["edm", "v", "flow"])
@pytest.mark.parametrize("system", [s for s in SampleSystem if s != SampleSystem.auto])
def test_an_image_network_makes_video_without_training(trained, tiny, strip, system, formulation):
    image = run_stage(tiny(formulation=formulation, optim={"samples": 4})).out
    assert strip(image).shape == (1, 12, 16, 3)
    frames = strip(image, system=system, frames=4, prompts=["a red square"])
    assert frames.shape == (4, 12, 16, 3)
    assert not np.array_equal(frames[0], frames[1])


@pytest.mark.parametrize("formulation", ["edm", "v", "flow"])
def test_tune_a_video_finds_the_source_again(tiny, strip, videos, formulation, tmp_path):
    """Inverted and drawn with the same prompt, none, it comes back: whatever the network, as far as steps go."""
    image = run_stage(tiny(tmp_path / "image", formulation=formulation, optim={"samples": 4})).out
    fields = {"stage": "video_pretrain", "parent": image, "model": {"system": "tune_a_video"}}
    video = run_stage(tiny(tmp_path / "video", formulation=formulation, optim={"samples": 4}, **fields)).out
    wanted = (read_source("source", videos[0], 3, 6.0, 12, 16)[0].permute(1, 2, 3, 0).numpy() + 1) * 127.5
    few, many = (np.abs(strip(video, steps, source=videos[0]) - wanted).mean() for steps in (3, 40))
    assert many < few
    assert many < 12


def test_text2video_zero_moves_what_it_is_told_to(trained, strip):
    image = trained(SystemName.svd)[Stage.image_pretrain]
    still, right = (strip(image, 20, system="text2video_zero", strength=s) for s in (0.0, 4.0))
    assert not np.array_equal(still[1:], right[1:])
    assert np.array_equal(still[0], right[0])  # the first frame sees itself alone


def test_control_video_follows_where_there_is_a_branch(trained, strip, videos, tmp_path):
    control = trained(SystemName.control_video)[Stage.image_pretrain]
    write_video(tmp_path / "white.mp4", (255, 255, 255))
    free, one, other = (strip(control, control=path) for path in ("", videos[0], str(tmp_path / "white.mp4")))
    assert free.shape == (3, 12, 16, 3)
    assert not np.array_equal(free, one)
    assert not np.array_equal(one, other)
    image = trained(SystemName.svd)[Stage.image_pretrain]
    assert np.array_equal(free, strip(image, system="control_video"))  # the branch is all that was trained


def test_gen1_s_blur_takes_structure_away(trained, strip, videos):
    video = trained(SystemName.gen1)[Stage.video_pretrain]
    sharp, blurred = (strip(video, source=videos[0], blur=level) for level in (0, 7))
    assert not np.array_equal(sharp, blurred)
    image = trained(SystemName.gen1)[Stage.image_pretrain]
    assert strip(image, prompts=["a red square"]).shape == (1, 12, 16, 3)
    assert strip(image, prompts=["a red square"], system="text2video_zero").shape == (3, 12, 16, 3)


def test_who_draws():
    assert draw_of(SampleSystem.auto, SystemName.svd, True) is from_noise
    assert draw_of(SampleSystem.auto, SystemName.tune_a_video, True) is made_anew
    assert draw_of(SampleSystem.auto, SystemName.tune_a_video, False) is from_noise
    assert draw_of(SampleSystem.auto, SystemName.control_video, True) is together
    assert draw_of(SampleSystem.text2video_zero, SystemName.control_video, True) is moved
