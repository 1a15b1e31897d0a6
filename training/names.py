"""What a configuration chooses by name."""

from enum import StrEnum


class Stage(StrEnum):
    """The three stages of Stable Video Diffusion."""

    image_pretrain = "image_pretrain"
    video_pretrain = "video_pretrain"
    finetune = "finetune"


class Formulation(StrEnum):
    """How noise is added and what the network predicts."""

    edm = "edm"
    v = "v"
    flow = "flow"


class Device(StrEnum):
    """Where the network runs; auto takes a GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class SystemName(StrEnum):
    """The systems that are trained; `rushes models` tells of each."""

    vdm = "vdm"
    imagen_video = "imagen_video"
    dit = "dit"
    make_a_video = "make_a_video"
    tune_a_video = "tune_a_video"
    gen1 = "gen1"
    video_ldm = "video_ldm"
    svd = "svd"
    lumiere = "lumiere"
    control_video = "control_video"

    @property
    def edits(self) -> bool:
        """Whether it samples by making a video anew; its network of video takes no images."""
        return self in (SystemName.tune_a_video, SystemName.gen1)


class Structure(StrEnum):
    """What shows a network where things are, in place of a depth estimate, which needs a network of its own."""

    blurred_brightness = "blurred_brightness"


class Trainable(StrEnum):
    """Which parameters a stage trains."""

    auto = "auto"
    all = "all"
    temporal = "temporal"


class SamplerName(StrEnum):
    """Which sampler integrates from noise to video."""

    heun = "heun"
    ddim = "ddim"


class SampleSystem(StrEnum):
    """Which system samples: the checkpoint's own, or one that makes video of an image network without training."""

    auto = "auto"
    text2video_zero = "text2video_zero"
    control_video = "control_video"
