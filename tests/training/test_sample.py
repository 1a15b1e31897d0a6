import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from training.config import SampleConfig
from training.errors import TrainingError
from training.sample import run_sample, write_video
from training.stages import Stopped, run_stage


@pytest.fixture
def checkpoints(tiny, tmp_path):
    """An image checkpoint and a video checkpoint, barely trained."""
    image = run_stage(tiny(out=str(tmp_path / "image")))
    video = run_stage(tiny(stage="video_pretrain", parent=image.out, out=str(tmp_path / "video")))
    return image.out, video.out


def config(checkpoint, out, **more):
    return SampleConfig(checkpoint=checkpoint, out=str(out), steps=2, device="cpu", enlarge=2, **more)


def test_videos_of_both_checkpoints(checkpoints, tmp_path):
    image, video = checkpoints
    events = []
    results = run_sample(config(video, tmp_path / "v.mp4", prompts=["a red square", ""]), events.append)
    assert [r.mp4 for r in results] == [str(tmp_path / f"v-{i}.mp4") for i in (1, 2)]
    with av.open(results[0].mp4) as container:
        frames = list(container.decode(video=0))
        assert (len(frames), frames[0].width, frames[0].height) == (3, 32, 24)
        assert container.streams.video[0].average_rate == 8
    gif = Image.open(results[0].gif)
    assert (gif.n_frames, gif.info["duration"]) == (3, 120)  # GIF counts in hundredths of a second
    assert Image.open(results[0].strip).size == (3 * 32, 24)
    assert [e["step"] for e in events if e["event"] == "sampling"] == [1, 2, 1, 2]
    assert [e["prompt"] for e in events if e["event"] == "result"] == ["a red square", ""]

    (picture,) = run_sample(config(image, tmp_path / "i"))
    assert picture.frames == 1

    # the same again is the same; another seed, prompt, guidance, motion or rate is not
    def strip(**more):
        return np.asarray(Image.open(run_sample(config(video, tmp_path / "again", **more))[0].strip))

    first = strip(prompts=["a red square"])
    assert np.array_equal(first, np.asarray(Image.open(results[0].strip)))
    assert not np.array_equal(first, strip(prompts=["a red square"], seed=1))
    assert not np.array_equal(first, strip(prompts=["a red square"], guidance=6.0))
    assert strip(frames=5, sampler="ddim").shape[1] == 5 * 32

    with pytest.raises(Stopped):
        run_sample(config(video, tmp_path / "stopped"), stop=lambda: True)
    assert not (tmp_path / "stopped.mp4").exists()


def test_of_three_stages_the_last_finished_one_is_taken(checkpoints, tmp_path):
    image, video = (Path(folder) for folder in checkpoints)
    three, events = tmp_path / "three", []
    shutil.copytree(image, three / "image_pretrain")
    shutil.copytree(video, three / "video_pretrain")
    (result,) = run_sample(config(str(three), tmp_path / "x"), events.append)
    assert result.frames == 3
    assert str(three / "video_pretrain") in events[0]["phase"]
    (three / "video_pretrain" / "result.json").unlink()  # interrupted
    (result,) = run_sample(config(str(three), tmp_path / "x"))
    assert result.frames == 1
    (three / "image_pretrain" / "result.json").unlink()
    with pytest.raises(TrainingError, match="three holds no finished stage; .* or name .*video_pretrain"):
        run_sample(config(str(three), tmp_path / "x"))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(TrainingError, match="does not exist"):
        run_sample(config(str(tmp_path), tmp_path / "x"))


@pytest.mark.parametrize("where", ["file/name", "taken"])
def test_an_out_that_cannot_be_written_is_said_before_the_first_step(checkpoints, tmp_path, where):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "taken.gif").mkdir()
    events = []
    with pytest.raises(TrainingError, match=f"out: .*{where}"):
        run_sample(config(checkpoints[0], tmp_path / where), events.append)
    assert events == []


def test_looking_whether_out_can_be_written_leaves_nothing(checkpoints, tmp_path):
    with pytest.raises(Stopped):
        run_sample(config(checkpoints[0], tmp_path / "new" / "x"), stop=lambda: True)
    assert list((tmp_path / "new").iterdir()) == []


def test_written_video_shows_the_frames(tmp_path):
    frames = np.zeros((4, 8, 10, 3), np.uint8)
    for i in range(4):
        frames[i] = [60 * i, 128, 255 - 60 * i]
    mp4, gif, png = write_video(frames, tmp_path / "a.b", fps=12.5, enlarge=4)
    assert (mp4.name, gif.name, png.name) == ("a.b.mp4", "a.b.gif", "a.b.png")
    with av.open(str(mp4)) as container:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        assert float(container.streams.video[0].average_rate) == 12.5
    assert decoded.shape == (4, 32, 40, 3)
    assert np.abs(decoded.mean((1, 2)) - frames.mean((1, 2))).max() < 6
    assert np.array_equal(np.asarray(Image.open(png))[::4, ::4], np.concatenate(list(frames), axis=1))


def test_odd_sizes_lose_a_line_and_not_the_video(tmp_path):
    mp4, _, _ = write_video(np.zeros((1, 7, 9, 3), np.uint8), tmp_path / "odd", fps=8)
    with av.open(str(mp4)) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (8, 6)
