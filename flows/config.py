"""The configuration of the flows that span packages, of the server, and of the small commands."""

from enum import StrEnum
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_settings import CLI_SUPPRESS

from curation.config import CurateConfig, OnDisk, SelectConfig, Strict
from training.config import SampleConfig, TrainStagedConfig
from training.names import SampleSystem

Model = TypeVar("Model", bound=BaseModel)


def _follows(value: Any) -> Any:
    if value:
        raise ValueError("follows from the pipeline's own videos and out; leave it away")
    return value


Derived = Annotated[SkipJsonSchema[str], Field(exclude=True), AfterValidator(_follows), CLI_SUPPRESS]
"""A field that a phase has and its section in the pipeline has not: in no form, no file and no help."""


class CurateSection(CurateConfig):
    """How the pipeline curates."""

    videos: Derived = ""
    out: Derived = ""


class SelectSection(SelectConfig):
    """How the pipeline selects."""

    manifest: Derived = ""
    out: Derived = ""
    dry_run: Annotated[SkipJsonSchema[bool], Field(exclude=True), AfterValidator(_follows), CLI_SUPPRESS] = False
    sweep: Derived = ""


class TrainSection(TrainStagedConfig):
    """How the pipeline trains its three stages."""

    selection: Derived = ""
    out: Derived = ""
    replace: Annotated[SkipJsonSchema[bool], Field(exclude=True), AfterValidator(_follows), CLI_SUPPRESS] = False


class SampleSection(SampleConfig):
    """How the pipeline samples from the trained model."""

    checkpoint: Derived = ""
    out: Derived = ""
    prompts: list[str] = Field(default_factory=list)
    """One video each. None takes a caption of the selection."""


class PipelineConfig(Strict):
    """From a folder of videos to a trained model that samples: curate, select, train three stages, sample."""

    videos: str
    """A folder (searched recursively), one video file, or a text file (.txt) that lists one path a line."""
    out: OnDisk = "runs/pipeline"
    """Folder for manifest, selection, training, report and samples. Running again does only what is missing;
    what was selected or trained under other settings is made anew."""
    curate: CurateSection = CurateSection.model_validate({})
    """How videos become a manifest."""
    select: SelectSection = SelectSection.model_validate({})
    """Which clips stay."""
    train: TrainSection = TrainSection.model_validate({})
    """The three stages."""
    sample: SampleSection = SampleSection.model_validate({})
    """What is sampled at the end."""

    @model_validator(mode="after")
    def _samples_what_it_trains(self) -> "PipelineConfig":
        system, sample = self.train.model.system, self.sample
        if system.edits != bool(sample.source):
            raise ValueError(
                f"sample.source: {system} makes a video anew; name its file"
                if system.edits
                else f"sample.source: {system} makes no video anew; leave it empty"
            )
        if sample.system != SampleSystem.auto or sample.control:
            raise ValueError(
                f"sample.{'control' if sample.control else 'system'}: the pipeline samples from a network of video; "
                "leave it, and run `rushes sample` on the image stage"
            )
        return self

    def curation(self) -> CurateConfig:
        """The first phase's own configuration; its manifest lies in `out/manifest`."""
        return _fill(CurateConfig, self.curate, videos=self.videos, out=self.out)

    def selection(self) -> SelectConfig:
        """The second phase's own configuration."""
        return _fill(SelectConfig, self.select, manifest=self.curation().out, out=f"{self.out}/selection")

    def training(self) -> TrainStagedConfig:
        """The third phase's own configuration. The folder is its own: another selection's stages are replaced."""
        folders = {"selection": self.selection().out, "out": f"{self.out}/training"}
        return _fill(TrainStagedConfig, self.train, **folders, replace=True)

    def sampling(self, prompts: list[str]) -> SampleConfig:
        """The last phase's own configuration; `prompts` are taken where none are configured."""
        last = self.training().stages()[-1].out
        chosen = self.sample.prompts or prompts
        return _fill(SampleConfig, self.sample, prompts=chosen, checkpoint=last, out=f"{self.out}/sample")


def _fill(model: type[Model], section: BaseModel, **derived: Any) -> Model:
    """The section as the model that the phase's function takes."""
    return model.model_validate({**section.model_dump(), **derived})


class FlowName(StrEnum):
    """The flows that can be served."""

    curate = "curate"
    select = "select"
    export = "export"
    train_stage = "train-stage"
    train_staged = "train-staged"
    pipeline = "pipeline"


class Schedule(Strict):
    """When a flow runs by itself, and on what."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Short name: lower case, digits and dashes."""
    flow: FlowName
    """The flow to run."""
    cron: str | None = None
    """When, as a cron expression: `0 3 * * *` is every night at three."""
    interval_s: float | None = Field(default=None, ge=1)
    """When, as seconds between two runs."""
    timezone: str = "UTC"
    """In which `cron` is read, as in the tz database: Europe/Paris."""
    config: dict[str, Any]
    """The flow's configuration, the same fields as in its form and its YAML file."""
    active: bool = True
    """Switched off, the schedule is shown in the UI and does nothing until it is switched on there."""

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("is in no tz database; UTC and Europe/Paris are") from error
        return value

    @model_validator(mode="after")
    def _one_clock(self) -> "Schedule":
        if (self.cron is None) == (self.interval_s is None):
            raise ValueError(f"schedule {self.name} needs either cron or interval_s")
        return self


class ServeConfig(Strict):
    """Prefect's server and UI, one local Ray, and the flows, on 127.0.0.1."""

    port: int = Field(default=4200, ge=1024, le=65535)
    """Port of the UI and the API."""
    ray: bool = True
    """Keep one local Ray running, so that curation does not start its own each time (about 15 s)."""
    cpus: int | None = Field(default=None, ge=1)
    """Cores that Ray may use; all of them if not given."""
    concurrent_runs: int = Field(default=1, ge=1)
    """Flow runs at a time; the others wait."""
    start_timeout_s: float = Field(default=180.0, ge=10)
    """How long the server and Ray may take to come up."""
    schedules: list[Schedule] = Field(default_factory=list)
    """Flows that run by themselves."""

    @model_validator(mode="after")
    def _names_differ(self) -> "ServeConfig":
        names = [s.name for s in self.schedules]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two schedules are named {', '.join(twice)}")
        return self


class PreflightConfig(CurateConfig):
    """Is everything here that a curation needs? The same fields as for the curation itself."""

    videos: str = ""
    """Not needed for this."""


class InspectConfig(Strict):
    """Look into a manifest."""

    manifest: str
    """Folder of a manifest, or the curation folder that holds one."""
    sql: str = ""
    """A query over the tables `clips`, `shots`, `videos`, `errors` and `duplicates`; empty shows a summary."""
    serve: bool = False
    """Serve a page on 127.0.0.1 to browse the clips: move thresholds, see what stays, play it, export the policy."""
    port: int = Field(default=4280, ge=0, le=65535)
    """Where the page is served; 0 takes a free port."""
    selection: str = ""
    """With serve: a selection of this manifest, to see why clips fell."""
    policy: str = ""
    """With serve: a policy YAML file to start from; empty judges by the default of the manifest's profile."""

    @model_validator(mode="after")
    def _for_the_page(self) -> "InspectConfig":
        if self.serve and self.sql:
            raise ValueError("give either sql or serve, not both")
        if not self.serve and (self.selection or self.policy):
            raise ValueError("selection and policy are for the page: add --serve")
        if self.selection and self.policy:
            raise ValueError("give either selection or policy, not both")
        return self


class ReportConfig(Strict):
    """Write a page with the funnel, histograms and contact sheets."""

    manifest: str
    """Folder of a manifest, or the curation folder that holds one."""
    selection: str | None = None
    """Folder of a selection made from it."""
    out: OnDisk = Field(default="report.html", min_length=1)
    """The page, one file that needs no other; a name that does not end in .html is a folder, which gets a report.html.
    Only an earlier report is overwritten."""


class DiffConfig(Strict):
    """Compare two selections."""

    a: str
    """Folder of a selection."""
    b: str
    """Folder of another one."""
    out: OnDisk = ""
    """A Parquet file for the clips that are in one alone, with the reasons of the other; empty writes none."""


class ModelsConfig(Strict):
    """List the systems, or tell of one."""

    system: str = ""
    """Name of a system, such as video_ldm; empty lists all of them."""


class DemoConfig(Strict):
    """From footage to a sampled video in one command."""

    videos: str = ""
    """Your own footage: a folder or a file. Empty takes the demo's own clips."""
    out: OnDisk = "runs/demo"
    """Folder for everything the demo makes."""
