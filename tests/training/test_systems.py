"""What `rushes models` tells."""

import pytest

from models.registry import NAMES
from training import systems
from training.errors import TrainingError
from training.names import SampleSystem, SystemName


def test_every_system_is_a_row_with_its_size_stages_and_use():
    rows = {row[0]: row for row in systems.table()}
    assert tuple(rows) == NAMES
    assert all(len(row) == len(systems.HEAD) and all(row) for row in rows.values())
    assert "rushes train SELECTION --model.system video_ldm;" in rows["video_ldm"][4]
    assert {name for name, row in rows.items() if "rushes train" in row[4]} == set(SystemName)
    assert {name for name, row in rows.items() if "rushes sample IMAGES --system" in row[4]} == set(SampleSystem) - {
        "auto"
    }
    assert {name for name, row in rows.items() if "--source" in row[4]} == {"gen1", "tune_a_video"}
    assert rows["control_video"][3] == "none published; by name, a control branch"
    assert rows["text2video_zero"][3] == "none: it needs no training"
    assert rows["imagen_video"][1] == "11.48 B"


def test_every_system_is_a_short_row_with_what_its_commands_are_told():
    rows = {row[0]: row for row in systems.by_name()}
    assert tuple(rows) == NAMES
    assert sum(max(map(len, column)) for column in zip(systems.BY_NAME, *rows.values(), strict=True)) < 85
    assert rows["gen1"][2:] == ("--model.system gen1", "--source VIDEO")
    assert rows["text2video_zero"][2:] == ("nothing to train", "--system text2video_zero")
    assert rows["control_video"][2:] == ("--model.system control_video", "--system control_video")
    assert [row[1] for row in rows.values()] == [row[1] for row in systems.table()]


def test_one_system_is_told_with_what_is_published_and_what_each_stage_trains():
    words, networks, stages = systems.about("svd")
    assert words.startswith("Blattmann et al. 2023")
    assert ("image_to_video", "1.52 B", "1.52 B") in networks
    assert [stage[2] for stage in stages[:2]] == ["2.1 M", "all"]
    assert stages[2][4] == "image_pretrain"
    assert "video_pretrain trains as video_pretrain, finetune as finetune_text" in words
    assert "finetune everything" in systems.about("lumiere")[0]
    assert "on one clip" in systems.about("tune_a_video")[0]
    assert "video_pretrain" not in systems.about("control_video")[0]


def test_a_system_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(TrainingError, match=r"system: .* Did you mean lumiere\?"):
        systems.about("lumire")
