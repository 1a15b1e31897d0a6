"""A small real selection: three videos of moving shapes, encoded with PyAV, whose frames carry their own number."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import settings

from training.checkpoint import RESULT
from training.config import DataSettings, ModelSettings, OptimSettings, TrainStageConfig
from training.names import Stage, SystemName
from training.selection import Clip
from training.stages import run_stage

settings.register_profile("rushes", deadline=None)  # the first example pays for lazy imports
settings.load_profile("rushes")

FPS = 12
FRAMES = 24


def write_video(path: Path, colour: tuple[int, int, int], frames: int = FRAMES, fps: int = FPS) -> None:
    """64x48: a square of `colour` moves to the right over grey that brightens by 8 levels a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"crf": "10", "g": "10"}
        for i in range(frames):
            picture = np.full((48, 64, 3), 20 + 8 * i, np.uint8)
            picture[16:32, i : i + 16] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def clip(i=0, video="v", **more) -> Clip:
    """A clip of 2 s that no file need hold."""
    fields = {"clip_id": f"c{i}", "video_id": video, "uri": "x.mp4", "start": 0.0, "end": 2.0, "fps": 12.0}
    return Clip(**{**fields, "width": 64, "height": 48, "motion": 1.0, "captions": ("a", "b", "c"), **more})


@dataclass
class Footage:
    """Where the fixture's videos and selection are."""

    folder: Path
    rows: list[dict]

    def write(self, name: str, rows: list[dict], definition: str | None = None) -> str:
        """Write a selection with other rows; returns its folder."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        table = pa.Table.from_pylist(rows)
        if definition is not None:
            field = table.schema.field("motion").with_metadata({"definition": definition})
            table = table.cast(table.schema.set(table.schema.get_field_index("motion"), field))
        pq.write_table(table, folder / "clips.parquet")
        return str(folder)

    @property
    def selection(self) -> str:
        """Six clips, two a video."""
        return str(self.folder / "selection")


@pytest.fixture(scope="session")
def footage(tmp_path_factory) -> Footage:
    torch.set_num_threads(1)
    folder, rows = tmp_path_factory.mktemp("footage"), []
    for v, colour in enumerate([(220, 30, 30), (30, 220, 30), (30, 30, 220)]):
        path = folder / f"{v}.mp4"
        write_video(path, colour)
        rows += [
            {
                "clip_id": f"{v}-{half}",
                "video_id": f"video{v}",
                "uri": str(path),
                "start": float(half),
                "end": half + 1.0,
                "fps": float(FPS),
                "width": 64,
                "height": 48,
                "caption_image": f"a {('red', 'green', 'blue')[v]} square",
                "caption_video": f"a square moves, clip {half}",
                "caption_fused": None,
                "motion": 1.0 + v,
                "technical_quality": 0.1 * v + 0.01 * half,
            }
            for half in (0, 1)
        ]
    footage = Footage(folder, rows)
    footage.write("selection", rows)
    return footage


def tiny_stage(footage: Footage, out: Path, **fields) -> TrainStageConfig:
    """A stage configuration small enough to train in about a second; keyword arguments change it."""
    optim = {"samples": 24, "batch": 4, "warmup": 8, "checkpoint_every": 8, "lr": 3e-3, **fields.pop("optim", {})}
    data = {"height": 12, "width": 16, "frames": 3, "fps": [6.0, 12.0], "holdout_share": 0.3}
    model = {"width": 8, "multipliers": [1, 2], "attention_levels": [1], "patch": 2, "head_dim": 8}
    model |= fields.pop("model", {})
    defaults = {"selection": footage.selection, "out": str(out), "device": "cpu", "log_seconds": 1e-6}
    return TrainStageConfig(
        **{**defaults, **fields},
        model=ModelSettings(**model),
        data=DataSettings(**{**data, "cache": str(footage.folder / "cache")}),
        optim=OptimSettings(**optim),
    )


@pytest.fixture
def tiny(footage, tmp_path):
    """`tiny_stage` in a folder of the test's own."""
    return lambda out=tmp_path / "out", **fields: tiny_stage(footage, Path(out), **fields)


@pytest.fixture(scope="session")
def trained(footage, tmp_path_factory):
    """`trained(system)`: the folders of a system's stages by name, barely trained, once, when it is asked for."""
    out = tmp_path_factory.mktemp("trained")
    images = {"dit": "dit", "gen1": "gen1"}  # the others share one image stage

    def stage(name: str, **fields) -> str:
        if not (out / name / RESULT).exists():
            run_stage(tiny_stage(footage, out / name, optim={"samples": 8}, **fields))
        return str(out / name)

    def make(system: SystemName) -> dict[Stage, str]:
        model, family = {"system": system}, images.get(system, "make_a_video")
        image = stage(f"{family}-images", model={"system": family})
        if system == SystemName.control_video:
            return {Stage.image_pretrain: stage("control", model=model, parent=image)}
        video = stage(f"{system}-video", stage="video_pretrain", model=model, parent=image)
        return {Stage.image_pretrain: image, Stage.video_pretrain: video}

    return make
