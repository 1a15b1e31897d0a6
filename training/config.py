"""The configuration of training and sampling: one model a job, seen as UI form, YAML file and command line."""

import difflib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from training.names import (
    Device,
    Formulation,
    SamplerName,
    SampleSystem,
    Stage,
    Structure,
    SystemName,
    Trainable,
)


class Strict(BaseModel):
    """An unknown field is an error, not a typo that is silently ignored; and so is a number that is none."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class ModelSettings(Strict):
    """Sizes of a new network. A stage with a parent takes its parent's sizes."""

    system: SystemName = SystemName.make_a_video
    """The system (see `rushes models`). Most add their temporal layers in video_pretrain, to any image stage's network;
    dit and gen1 have image networks of their own, so name them from image_pretrain on; tune_a_video's video_pretrain
    tunes on one clip; control_video trains a control branch in image_pretrain, beside its parent. A parent that is a
    video network keeps its system."""
    structure: Structure = Structure.blurred_brightness
    """gen1 and control_video: what shows them where things are."""
    width: int = Field(default=24, ge=8, multiple_of=8)
    """Channels of the finest level."""
    multipliers: list[int] = Field(default=[1, 2, 3], min_length=1)
    """Channels of each level as a multiple of width; each level halves height and width."""
    blocks: int = Field(default=1, ge=1)
    """Residual blocks in a level."""
    attention_levels: list[int] = [1, 2]
    """Levels that attend over space and to the caption; 0 is the finest."""
    patch: int = Field(default=2, ge=1)
    """Pixels (side) folded into channels before the first layer."""
    head_dim: int = Field(default=24, ge=8, multiple_of=2)
    """Channels of an attention head."""

    @field_validator("system", mode="before")
    @classmethod
    def _is_trained(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name = value.lower().replace("-", "_")
        if name in set(SystemName):
            return name
        if name in set(SampleSystem) - {SampleSystem.auto}:
            raise ValueError(
                f"{name} needs no training: `rushes sample CHECKPOINT --system {name}` makes video of an image stage's "
                "checkpoint"
            )
        near = difflib.get_close_matches(name, list(SystemName), 1)
        there_is = f"did you mean {near[0]}?" if near else f"there are {', '.join(SystemName)}"
        raise ValueError(f"no such system; {there_is}")

    @model_validator(mode="after")
    def _levels_exist(self) -> "ModelSettings":
        if wrong := [i for i in self.attention_levels if not 0 <= i < len(self.multipliers)]:
            raise ValueError(f"attention_levels {wrong} do not exist: there are {len(self.multipliers)} levels")
        if any(m < 1 for m in self.multipliers):
            raise ValueError("multipliers must be 1 or more")
        return self


class CaptionWeights(Strict):
    """How often each of a clip's captions is shown; where one is missing the others share its part."""

    image: float = Field(default=0.5, ge=0)
    """Weight of the image captioner's caption (column caption_image)."""
    video: float = Field(default=0.25, ge=0)
    """Weight of the video captioner's caption (column caption_video)."""
    fused: float = Field(default=0.25, ge=0)
    """Weight of the fused caption (column caption_fused)."""

    @model_validator(mode="after")
    def _not_all_zero(self) -> "CaptionWeights":
        if self.image + self.video + self.fused == 0:
            raise ValueError("at least one caption weight must be above 0")
        return self


class DataSettings(Strict):
    """What the network sees of a clip."""

    height: int = Field(default=32, ge=8)
    """Height in pixels; frames are resized to cover height x width and cropped at the centre."""
    width: int = Field(default=56, ge=8)
    """Width in pixels."""
    frames: int = Field(default=8, ge=1)
    """Frames of a training video; the image stage takes one."""
    fps: list[float] = Field(default=[8.0, 12.0], min_length=1)
    """Frame rates at which clips are sampled, drawn at random and shown to the network. Clips too short for all of
    them are sampled at the lowest rate that fits."""
    text_drop: float = Field(default=0.1, ge=0, le=1)
    """Share of samples whose caption is left empty, so that guidance works."""
    captions: CaptionWeights = CaptionWeights()
    """How often each caption is shown."""
    holdout_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the clips kept for evaluation, split by source video; at least one where there are two or more. A
    selection that splits says itself which they are."""
    cache: str = ""
    """Folder for decoded frames; empty takes the folder `cache` beside the checkpoint."""
    cache_gb: float = Field(default=4.0, ge=0)
    """A selection whose resized frames take more than this is decoded as it is read."""

    @model_validator(mode="after")
    def _rates_are_positive(self) -> "DataSettings":
        if any(rate <= 0 for rate in self.fps):
            raise ValueError("fps must all be above 0")
        return self


class OptimSettings(Strict):
    """How long and how a stage is optimised. Everything is counted in samples, not in steps."""

    samples: int = Field(default=4000, ge=1)
    """Samples (images or videos) to train on, repeats included; rounded up to whole batches."""
    batch: int = Field(default=8, ge=1)
    """Samples in a batch."""
    lr: float = Field(default=1e-3, gt=0)
    """AdamW's learning rate, reached after the warm-up."""
    warmup: int = Field(default=256, ge=0)
    """Samples over which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are scaled down to it."""
    ema_half_life: float = Field(default=2000, gt=0)
    """Half-life in samples of the averaged weights, never above a twentieth of the samples seen so far."""
    p_mean: float = -0.4
    """edm: mean of ln sigma, the noise that the stage trains at; higher for larger pictures."""
    p_std: float = Field(default=1.4, gt=0)
    """edm: standard deviation of ln sigma."""
    trainable: Trainable = Trainable.auto
    """auto trains in video_pretrain what the system's recipe says (`rushes models NAME`): the temporal layers alone for
    make_a_video, lumiere and video_ldm; otherwise everything that the stage's data pass."""
    best_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the training clips with the highest `best_by`; the finetune stage is meant for a share below 1."""
    best_by: str = "technical_quality"
    """Column that ranks clips for best_fraction."""
    checkpoint_every: int = Field(default=1024, ge=1)
    """Samples between checkpoints."""


class TrainStageConfig(Strict):
    """Train one stage on a selection."""

    stage: Stage = Stage.image_pretrain
    """image_pretrain on single frames; video_pretrain inflates its parent; finetune goes on from its parent."""
    selection: str = "runs/selection"
    """Folder of a selection, with its clips.parquet."""
    out: str = "runs/training/image_pretrain"
    """Folder for checkpoint, metrics and loss curve. Running again on it resumes, or says that it is finished; another
    run's is left alone."""
    replace: bool = False
    """Train anew where `out` holds another run of the same stage, whose checkpoint is then lost."""
    parent: str = ""
    """Checkpoint to start from: a file, or the folder of a finished stage. Only image_pretrain may go without."""
    formulation: Formulation = Formulation.edm
    """edm (Karras et al. 2022), v (v-prediction on the cosine schedule) or flow (straight paths, dit's own)."""
    model: ModelSettings = ModelSettings()
    """Sizes of a new network."""
    data: DataSettings = DataSettings()
    """What the network sees of a clip."""
    optim: OptimSettings = OptimSettings()
    """How long and how the stage is optimised."""
    seed: int = Field(default=0, ge=0)
    """Seed of weights, order, captions and noise."""
    device: Device = Device.auto
    """Where to train."""
    cpu_threads: int = Field(default=0, ge=0)
    """Threads on the CPU; 0 takes half of the cores, which on a busy machine is faster than all of them."""
    log_seconds: float = Field(default=1.0, gt=0)
    """Seconds between two lines of metrics."""

    @model_validator(mode="after")
    def _has_a_parent(self) -> "TrainStageConfig":
        if self.stage != Stage.image_pretrain and not self.parent:
            raise ValueError(f"parent: {self.stage} needs the checkpoint to start from")
        if self.model.system == SystemName.control_video and not (self.stage == Stage.image_pretrain and self.parent):
            raise ValueError(
                "model.system: control_video trains a control branch: take --stage image_pretrain, and as --parent a "
                "finished image stage"
            )
        return self


class TrainStagedConfig(Strict):
    """Train the three stages in sequence, each from the one before."""

    selection: str = "runs/selection"
    """Folder of a selection, with its clips.parquet."""
    out: str = "runs/training"
    """Folder for the three stages' folders. Running again on it resumes; another run's is left alone."""
    replace: bool = False
    """Train anew where `out` holds another run's stages, whose checkpoints are then lost."""
    formulation: Formulation = Formulation.edm
    """edm (Karras et al. 2022), v (v-prediction on the cosine schedule) or flow (straight paths, dit's own)."""
    model: ModelSettings = ModelSettings()
    """Sizes of the network."""
    data: DataSettings = DataSettings()
    """What the network sees of a clip, in all stages."""
    image_pretrain: OptimSettings = OptimSettings()
    """How the image stage is optimised."""
    video_pretrain: OptimSettings = OptimSettings(samples=240, batch=4, warmup=32, checkpoint_every=120)
    """How the video stage is optimised."""
    finetune: OptimSettings = OptimSettings(samples=320, batch=4, warmup=32, best_fraction=0.5)
    """How the last stage is optimised."""
    seed: int = Field(default=0, ge=0)
    """Seed of weights, order, captions and noise."""
    device: Device = Device.auto
    """Where to train."""
    cpu_threads: int = Field(default=0, ge=0)
    """Threads on the CPU; 0 takes half of the cores, which on a busy machine is faster than all of them."""
    log_seconds: float = Field(default=1.0, gt=0)
    """Seconds between two lines of metrics."""

    @field_validator("image_pretrain", "video_pretrain", "finetune", mode="before")
    @classmethod
    def _what_is_not_named_stays_the_stage_s(cls, given: Any, info: ValidationInfo) -> Any:
        """One setting of a stage leaves its others as they are here, and not as OptimSettings has them."""
        own: OptimSettings = cls.model_fields[str(info.field_name)].default
        return own.model_dump() | given if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _has_three_stages(self) -> "TrainStagedConfig":
        if self.model.system == SystemName.control_video:
            raise ValueError("model.system: control_video has one stage: take --stage image_pretrain and a --parent")
        return self

    def stages(self) -> list[TrainStageConfig]:
        """The three stages' configurations; each parent is the folder of the stage before."""
        stages, parent = [], ""
        data = self.data.model_copy(update={"cache": self.data.cache or str(Path(self.out) / "cache")})
        shared = ("selection", "replace", "formulation", "model", "seed", "device", "cpu_threads", "log_seconds")
        for stage in Stage:
            out = str(Path(self.out) / stage.value)
            stages.append(
                TrainStageConfig(
                    **{key: getattr(self, key) for key in shared},
                    stage=stage,
                    out=out,
                    parent=parent,
                    data=data,
                    optim=getattr(self, stage.value),
                )
            )
            parent = out
        return stages


class SampleConfig(Strict):
    """Sample videos from a checkpoint, as MP4 and GIF."""

    checkpoint: str = "runs/training/finetune"
    """A checkpoint file, the folder of a stage, or that of three, whose last finished one is taken."""
    system: SampleSystem = SampleSystem.auto
    """auto is the checkpoint's own; text2video_zero and control_video make video of an image stage's checkpoint."""
    source: str = ""
    """A video file to make anew after the prompt, for checkpoints of gen1 and tune_a_video."""
    control: str = ""
    """control_video: a video file to follow, for a checkpoint with a control branch; none if empty."""
    blur: int = Field(default=2, ge=0, le=7)
    """gen1: how often the source's structure is blurred; at 7 nothing of it is left in small videos."""
    strength: float = 1.0
    """text2video_zero: pixels that the picture moves down and to the right a frame, rounded."""
    prompts: list[str] = Field(default=[""], min_length=1)
    """One video each; the empty prompt is unconditional. Several: --prompts "a dog" --prompts "a cat"."""
    out: str = "runs/sample"
    """Path of the videos without suffix: with several prompts, -1, -2, ... is added."""
    steps: int = Field(default=18, ge=1)
    """Steps of the sampler."""
    sampler: SamplerName = SamplerName.heun
    """heun calls the network twice a step, ddim once. tune_a_video and control_video always take ddim."""
    guidance: float = Field(default=3.0, ge=0)
    """Classifier-free guidance scale; 1 is none."""
    fps: float = Field(default=8.0, gt=0)
    """Frame rate that the network is asked for and the files play at."""
    motion: float | None = Field(default=None, ge=0)
    """Motion score that the network is asked for, in the manifest's unit; unknown if not given."""
    frames: int | None = Field(default=None, ge=1)
    """Frames; as many as in training if not given."""
    seed: int = Field(default=0, ge=0)
    """Seed of the noise."""
    enlarge: int = Field(default=4, ge=1, le=16)
    """Every pixel becomes a square of this side in the files, so that small videos can be seen."""
    device: Device = Device.auto
    """Where to sample."""
    cpu_threads: int = Field(default=0, ge=0)
    """Threads on the CPU; 0 takes half of the cores, which on a busy machine is faster than all of them."""
