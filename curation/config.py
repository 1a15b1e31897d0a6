"""The configuration of curation and selection: one model a flow, seen as UI form, YAML file and command line."""

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from curation.errors import TO_DISK
from curation.scores.text_languages import recogniser_for


class Strict(BaseModel):
    """An unknown field is an error, not a typo that is silently ignored; and so is a number that is none."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _no_store(out: str) -> str:
    if "://" in out:
        raise ValueError(TO_DISK)
    return out


OnDisk = Annotated[str, AfterValidator(_no_store)]
"""Where something is written that no object store takes."""


class Profile(StrEnum):
    """Which set of models measures the clips."""

    embedded = "embedded"
    svd = "svd"


class CutSettings(Strict):
    """The cut cascade: three detectors at three frame rates with three thresholds suspect, a network decides."""

    width_px: int = Field(default=128, ge=32, le=1024)
    """Width at which the detectors see the frames."""
    hard_threshold: float = Field(default=2.5, gt=0)
    """Adaptive detector on every frame: how many times the local average a frame's change must be to be looked at."""
    hard_min_content: float = Field(default=8.0, gt=0)
    """Adaptive detector: the least HSV change (0-255) that is looked at."""
    medium_fps: float = Field(default=6.0, gt=0)
    """Frame rate of the content detector, which sees quick transitions."""
    medium_threshold: float = Field(default=14.0, gt=0)
    """Content detector: HSV change between two of its frames."""
    slow_fps: float = Field(default=2.0, gt=0)
    """Frame rate of the histogram detector, which sees fades and dissolves."""
    slow_threshold: float = Field(default=0.35, gt=0, lt=1)
    """Histogram detector: how far the luma histogram may decorrelate between two of its frames."""
    gradual_threshold: float = 2.0
    """Log-odds above which the network's frames are a gradual transition. Higher: fewer false ones, more missed."""


class ClipSettings(Strict):
    """How shots become clips."""

    min_length_s: float = Field(default=1.0, ge=0.5)
    """Shots and remainders shorter than this give no clip; they stay in the shot table with that reason."""
    max_length_s: float = Field(default=10.0, gt=0)
    """Longer shots are split."""
    max_snap_s: float = Field(default=1.0, ge=0)
    """A clip starts on the first keyframe of its shot when that costs at most this much; else on the cut itself."""
    stride_s: float | None = Field(default=None, ge=0.5)
    """Cut shots into clips of exactly this length, one after the other from the shot's first frame on, wherever
    keyframes lie; what is left of a shot, and shots that are shorter, give no clip. The three rules above do not count
    then. Not given: clips of min_length_s to max_length_s."""

    def too_short(self, length: float) -> str | None:
        """Why a shot of this length (seconds) gives no clip, or None if it is long enough."""
        if self.stride_s is not None and length < self.stride_s:
            return f"{length:.2f} s is shorter than clips.stride_s ({self.stride_s:g} s)"
        if self.stride_s is None and length < self.min_length_s:
            return f"{length:.2f} s is shorter than clips.min_length_s ({self.min_length_s:g} s)"
        return None

    @model_validator(mode="after")
    def _ordered(self) -> "ClipSettings":
        if self.max_length_s < self.min_length_s:
            raise ValueError(f"max_length_s ({self.max_length_s}) is below min_length_s ({self.min_length_s})")
        return self


class MotionSettings(Strict):
    """Dense optical flow, as Stable Video Diffusion measures it."""

    method: Literal["farneback", "dis", "raft"] = "farneback"
    """farneback: as published; dis: a seventh of its time; raft: exact also where much moves, for a GPU."""
    fps: float = Field(default=2.0, gt=0, le=30)
    """Rate at which frames are compared."""
    size_px: int = Field(default=144, ge=32, le=720)
    """Short side at which the flow is computed; part of the score's definition. raft needs 128 or more."""
    raft_weights: str = "raft_large_C_T_SKHT_V2-ff5fadd5.pth"
    """RAFT's weights, large or small: a local file of torchvision's or of its authors'."""

    @model_validator(mode="after")
    def _large_enough(self) -> "MotionSettings":
        if self.method == "raft" and self.size_px < 128:
            raise ValueError(f"raft needs size_px of 128 or more, not {self.size_px}")
        return self


class TextSettings(Strict):
    """Text area with CRAFT."""

    enabled: bool = True
    """Switch the text score off: it is the dearest one on a CPU."""
    method: Literal["cascade", "craft", "light"] = "cascade"
    """cascade: CRAFT where cheap looks suspect text; craft: CRAFT on whole frames; light: RapidOCR, spot-checked."""
    canvas_px: int = Field(default=640, ge=128, le=2560)
    """Long side at which CRAFT looks at whole frames; those it gets are no larger than thumbnail_px."""
    check_every: int = Field(default=20, ge=1)
    """With light: one clip in so many is also measured by CRAFT, into a column of its own."""
    recognise: bool = True
    """Also read the text that was found."""
    languages: list[str] = ["en"]
    """EasyOCR's codes of the languages to read, all of one recogniser: en; ru and uk; ja; de and fr. English is always
    read. Text in other scripts counts for the area and gives no words. Only weights for en come with the package."""

    @field_validator("languages")
    @classmethod
    def _one_recogniser(cls, languages: list[str]) -> list[str]:
        recogniser_for(languages)
        return list(dict.fromkeys(languages))


class WeightSettings(Strict):
    """Names of the models of the `svd` profile: a hub name, a local folder or file."""

    clip: str = "hf-hub:timm/vit_large_patch14_clip_224.openai"
    """CLIP image and text towers, loaded by open_clip; LAION's head was trained on the features of this one."""
    aesthetic_head: str = "sac+logos+ava1-l14-linearMSE.pth"
    """LAION's linear aesthetic head: a local file."""
    coca: str = "hf-hub:laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k"
    """Image captioner, loaded by open_clip."""
    video_captioner: str = "kpyu/video-blip-opt-2.7b-ego4d"
    """Video captioner, loaded by transformers."""
    caption_llm: str = "Qwen/Qwen2.5-1.5B-Instruct"
    """Instruction model that fuses both captions: loaded by transformers, or http://host:port/v1#model of a server."""
    folder: str = ""
    """Folder that holds weights under their names; looked at before the hub's cache."""


class DuplicateSettings(Strict):
    """Which clips repeat another: looked for in the whole manifest once the clips are measured, and told in a table."""

    bits: int = Field(default=8, ge=0, le=16)
    """How many of a frame hash's 64 bits may differ, on average over time, between clips that look the same: 0 to 4
    strict, 8 takes re-encodings, borders and trims, more takes heavier changes and, sooner or later, other clips of one
    scene. At most 16: unrelated pictures differ by some 32, and pairs so far apart are seldom even compared."""
    mirrored: bool = False
    """Also find clips that were mirrored, left to right."""
    similarity: float = Field(default=0.95, gt=0, le=1)
    """Cosine of their embeddings from which clips mean the same."""
    against: list[str] = []
    """Existing manifests: of a clip that repeats one of theirs, theirs is the representative."""


class CurateConfig(Strict):
    """Turn videos into a manifest of scored clips."""

    videos: str
    """A folder (searched recursively), one video file, or a text file (.txt) that lists one path a line; or the URL of
    one of these on an object store, like s3://bucket/footage."""
    out: str = Field(default="runs/curation", min_length=1)
    """Folder for the manifest, or a place like s3://bucket/name. Running again on it does only what is missing."""
    profile: Profile = Profile.embedded
    """embedded needs no model hub and no GPU; svd is the published recipe."""
    cuts: CutSettings = CutSettings()
    clips: ClipSettings = ClipSettings()
    motion: MotionSettings = MotionSettings()
    text: TextSettings = TextSettings()
    weights: WeightSettings = WeightSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    decoder: Literal["cpu", "nvdec"] = "cpu"
    """cpu, or nvdec: on an NVIDIA card, which gives the same pictures and leaves cores to the scorers."""
    thumbnail_px: int = Field(default=640, ge=64, le=2048)
    """Long side of the frames that the scorers see."""
    preview_px: int = Field(default=192, ge=0, le=1024)
    """Long side of the small picture kept with each clip for contact sheets; 0 keeps none."""
    videos_per_shard: int = Field(default=8, ge=1)
    """Videos in a shard, the unit of work, retry and output."""
    cpus: int | None = Field(default=None, ge=1)
    """Cores to use; all of them if not given."""
    remeasure: bool = False
    """Measure again what was measured with other settings: the scores concerned, or everything where other clips would
    come of the videos. The old numbers stay until the new ones are complete."""
    retry_failed: bool = False
    """Measure videos again that could not be read, or of which a score failed."""
    no_progress_minutes: float = Field(default=30.0, gt=0)
    """End a run in which nothing has finished for this long, and say what it was doing."""
    memory_gb: float = Field(default=4.0, gt=0)
    """Memory that reading one video may take. One that takes more loses its process and is tried once more, alone."""
    alone_minutes: float = Field(default=60.0, gt=0)
    """Time for a video that took its process along and is tried once more, alone."""


class Rule(Strict):
    """A clip stays when its score lies within bounds, is among the best of its group, or an expression holds."""

    score: str = ""
    """Column of the manifest that the bounds or `top` are about."""
    min: float | None = Field(default=None, allow_inf_nan=False)
    """Lowest value that stays."""
    max: float | None = Field(default=None, allow_inf_nan=False)
    """Highest value that stays."""
    min_percentile: float | None = Field(default=None, ge=0, le=100)
    """Clips below this percentile of all measured clips fall: 25 drops the lowest quarter."""
    max_percentile: float | None = Field(default=None, ge=0, le=100)
    """Clips above this percentile of all measured clips fall: 75 drops the highest quarter."""
    top: int | None = Field(default=None, ge=1)
    """So many clips with the highest score stay, of those that the bounds, expressions and duplicates leave."""
    per: list[str] = []
    """With top: in each group of this column, or of these columns together, such as video_id. Empty: over all clips."""
    where: str | None = None
    """In place of a score: an expression in SQL's syntax over the columns, which must be true."""
    missing: Literal["reject", "keep"] = "reject"
    """What happens to a clip whose score, or expression, is null because it could not be measured."""

    @field_validator("per", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("min", "max", "min_percentile", "max_percentile", mode="before")
    @classmethod
    def _a_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a bound is a number, not true or false")
        return value

    @model_validator(mode="after")
    def _asks_one_thing(self) -> "Rule":
        bounded = any(b is not None for b in (self.min, self.max, self.min_percentile, self.max_percentile))
        if self.where is not None and (self.score or bounded or self.top):
            raise ValueError("a rule has either where or a score; give two rules")
        if bounded and self.top:
            raise ValueError("a rule has either bounds or top; give two rules")
        if self.per and not self.top:
            raise ValueError("per belongs to top, and there is none")
        if self.where is None and not self.score:
            raise ValueError("a rule needs a score, or an expression as where")
        if self.where is None and not bounded and not self.top:
            raise ValueError("a rule needs min, max, min_percentile, max_percentile or top")
        return self


class Policy(Strict):
    """What a clip must be like to stay, and what part the clips that stay are to play. Applying one to a manifest gives
    a selection."""

    name: str = Field(default="default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Short name, used in file names."""
    rules: list[Rule] = []
    """All of them must hold."""
    drop_duplicates: bool = True
    """Of clips that look the same (re-encoded, scaled, bordered, trimmed), keep one."""
    duplicate_bits: int = Field(default=8, ge=0, le=16)
    """How many of a frame hash's 64 bits may differ, on average, between duplicates; 0 to 16, as duplicates.bits."""
    duplicate_mirrored: bool = False
    """A mirrored clip is a duplicate too."""
    duplicate_similarity: float | None = Field(default=None, gt=0, le=1)
    """Also keep one of clips that mean the same: whose embeddings have at least this cosine."""
    max_clips_per_video: int | None = Field(default=None, ge=1)
    """No source video gives more clips than this."""
    best_by: str | None = None
    """With max_clips_per_video: the score whose highest values stay. Not given: the choice follows the clips' ids."""
    validation: float | None = Field(default=None, gt=0, lt=1)
    """Share of the source videos whose clips are for validation, as a column `split` (train or validation). Videos that
    share duplicates are on one side."""
    weight: str | None = None
    """An expression in SQL's syntax, at least 0: how often a clip is to be drawn, as a column `weight`. Null is 0."""
    sample: int | None = Field(default=None, ge=1)
    """Of what is left, take so many clips at random, without replacement, by their weight."""
    seed: int = Field(default=0, ge=0)
    """Another number gives another split and another sample."""

    @model_validator(mode="after")
    def _duplicates_are_looked_for(self) -> "Policy":
        looked_at = {"duplicate_bits": "perceptual_", "duplicate_mirrored": "perceptual_"}
        looked_at["duplicate_similarity"] = "semantic_"
        idle = [
            name
            for name, columns in looked_at.items()
            if getattr(self, name) != type(self).model_fields[name].default
            and not any(rule.score.startswith(columns) or columns in (rule.where or "") for rule in self.rules)
        ]
        if idle and not self.drop_duplicates and self.validation is None:
            unread = " and ".join(idle)
            raise ValueError(f"with drop_duplicates: false nothing reads {unread}; make it true, or leave {unread} out")
        return self

    @model_validator(mode="after")
    def _best_of_a_few(self) -> "Policy":
        if self.best_by and not self.max_clips_per_video:
            raise ValueError("best_by belongs to max_clips_per_video, and there is none")
        return self


class SelectConfig(Strict):
    """Apply a policy to a manifest."""

    manifest: str
    """Folder of a manifest, or the curation folder that holds one."""
    out: OnDisk = Field(default="runs/selection", min_length=1)
    """Folder for the selection; replaced as a whole."""
    policy: str = ""
    """A policy YAML file; empty takes the default of the manifest's profile."""
    inline_policy: Policy | None = None
    """The policy itself, in place of a file."""
    against: list[str] = []
    """Existing manifests whose clips are not to be repeated; empty takes those that the curation was given."""
    dry_run: bool = False
    """Show what would stay and fall, and write nothing."""
    sweep: str = ""
    """Several selections at once: motion=12.5,25,50 makes OUT/motion-12.5 and so on, each without the clips below that
    percentile of motion. What is there already is kept."""

    @model_validator(mode="after")
    def _one_policy(self) -> "SelectConfig":
        if self.policy and self.inline_policy:
            raise ValueError("give either policy (a file) or inline_policy, not both")
        return self

    @field_validator("sweep")
    @classmethod
    def _percentiles(cls, value: str) -> str:
        if value and not re.fullmatch(r"\w+=\d+(\.\d+)?(,\d+(\.\d+)?)*", value):
            raise ValueError("give a score and percentiles from 0 to 100, such as motion=12.5,25,50")
        if beyond := [p for p in value.partition("=")[2].split(",") if p and float(p) > 100]:
            raise ValueError(f"{beyond[0]} is no percentile, which go from 0 to 100")
        levels = [float(p) for p in value.partition("=")[2].split(",") if p]
        if again := [p for p in levels if levels.count(p) > 1]:
            raise ValueError(f"{again[0]:g} is given twice; give each level once")
        return value


class ExportMode(StrEnum):
    """How a clip leaves its video."""

    auto = "auto"
    copy = "copy"
    reencode = "reencode"


class ExportFormat(StrEnum):
    """What the exported clips lie in."""

    files = "files"
    webdataset = "webdataset"


class ExportConfig(Strict):
    """Write clips as MP4 files or WebDataset shards, their captions and scores beside them."""

    selection: str
    """Folder of a selection, or of a manifest, all of whose clips are then written."""
    out: OnDisk = Field(default="runs/export", min_length=1)
    """Folder for the clips. Running again on it writes only what is missing."""
    format: ExportFormat = ExportFormat.files
    """files: CLIP_ID.mp4 and CLIP_ID.json; webdataset: tar shards that also hold CLIP_ID.txt, the caption."""
    mode: ExportMode = ExportMode.auto
    """copy: the packets as they are; reencode: H.264, upright, every frame; auto: a copy where it is exact."""
    trim_frames: int = Field(default=4, ge=0, le=64)
    """A copy may leave out so many last frames, where those need frames beyond the clip's end."""
    crf: int = Field(default=18, ge=0, le=51)
    """Quality of re-encoding, x264's constant rate factor: lower is better and larger."""
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"] = (
        "medium"
    )
    """Effort of re-encoding, x264's preset."""
    audio: bool = False
    """Keep the sound."""
    clips_per_shard: int = Field(default=1000, ge=1)
    """Clips in a WebDataset shard."""
    cpus: int | None = Field(default=None, ge=1)
    """Clips written at a time; as many as there are cores if not given."""
    retry_failed: bool = False
    """Try clips again that could not be written."""
