"""What does not go together is refused in one line, before any work."""

import pytest

from training.config import SampleConfig
from training.errors import TrainingError
from training.names import Stage, SystemName
from training.sample import run_sample

IMAGE, VIDEO = Stage.image_pretrain, Stage.video_pretrain


@pytest.mark.parametrize(
    ("system", "stage", "fields", "message"),
    [
        ("svd", VIDEO, {"system": "text2video_zero"}, "system: text2video_zero .* name an image stage's checkpoint"),
        ("svd", VIDEO, {"system": "control_video"}, "system: control_video .* is a network of video"),
        ("dit", IMAGE, {"system": "control_video"}, "system: .* is dit's transformer"),
        ("svd", IMAGE, {"system": "text2video_zero", "steps": 2}, "steps: .* take 3 or more"),
        ("gen1", VIDEO, {}, "source: gen1 makes a video anew; name its file"),
        ("tune_a_video", VIDEO, {}, "source: tune_a_video makes a video anew; name its file"),
        ("gen1", VIDEO, {"source": "nowhere.mp4"}, r"source: nowhere\.mp4 is no file"),
        ("svd", VIDEO, {"source": "x.mp4"}, "source: svd makes no video anew"),
        ("gen1", IMAGE, {"source": "x.mp4"}, "source: gen1 makes no video anew of .* leave source empty"),
        ("svd", IMAGE, {"control": "x.mp4", "system": "control_video"}, "control: .* has no control branch"),
        ("svd", VIDEO, {"control": "x.mp4"}, "control: .* leave control empty"),
        ("svd", IMAGE, {"strength": 2.0}, "strength: only text2video_zero .* take system text2video_zero"),
        ("svd", VIDEO, {"blur": 3}, "blur: only gen1"),
        ("gen1", IMAGE, {"blur": 3}, "blur: only gen1 .* name a video checkpoint of gen1"),
        (
            "control_video",
            IMAGE,
            {"control": "x.mp4", "system": "text2video_zero"},
            "control: .* text2video_zero uses",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(trained, tmp_path, system, stage, fields, message):
    events = []
    config = SampleConfig(
        checkpoint=trained(SystemName(system))[stage], out=str(tmp_path / "x"), device="cpu", **fields
    )
    with pytest.raises(TrainingError, match=message) as error:
        run_sample(config, events.append)
    assert "\n" not in str(error.value)
    assert events == []
    assert list(tmp_path.iterdir()) == []
