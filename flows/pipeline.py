"""The flow `pipeline`: from a folder of videos to a trained model that samples."""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from curation.plan import CurationSummary
from curation.policy import SelectionSummary
from flows.config import PipelineConfig
from flows.curate import curate_videos, show_manifest
from flows.environment import prepare
from flows.launch import Event
from flows.select import select_clips, show_selection
from flows.train import sample_videos, train_one


@dataclass
class PipelineSummary:
    """What a pipeline run made."""

    curation: CurationSummary
    selection: SelectionSummary
    stages: list[Event]
    samples: list[Event]
    report: str


@task(name="report", cache_policy=NO_CACHE, task_run_name="report")
def write_page(manifest: str, selection: str, out: str) -> str:
    """Write report.html: funnel, histograms and contact sheets in one file."""
    from curation.report import write_report

    page = str(write_report(manifest, selection, f"{out}/report.html"))
    get_run_logger().info("report: %s", page)
    return page


@flow(name="pipeline", validate_parameters=True)
def pipeline(config: PipelineConfig) -> PipelineSummary:
    """From a folder of videos to a trained model that samples: curate, select, train three stages, sample.

    **Give** a folder as `videos` and one as `out`.
    **Get** `out/manifest`, `out/selection`, `out/training`, `out/report.html` and `out/sample.mp4`.

    Every phase knows what is finished: running it again does only what is missing.
    Look at [the manifest](/artifacts/key/manifest), [the funnel](/artifacts/key/selection-funnel),
    the losses of [images](/artifacts/key/training-image-pretrain), [video](/artifacts/key/training-video-pretrain)
    and [finetuning](/artifacts/key/training-finetune), and [the samples](/artifacts/key/samples).
    """
    prepare()
    curation = curate_videos(config.curation())
    show_manifest(curation)
    selection = select_clips(config.selection())
    show_selection(selection)
    report = write_page(curation.manifest, selection.out, config.out)
    stages = [train_one(stage) for stage in config.training().stages()]
    samples = sample_videos(config.sampling(captions(selection.out)))
    return PipelineSummary(curation, selection, stages, samples, report)


def captions(selection: str) -> list[str]:
    """The prompt to sample where none is configured: of the selection's captions the one most like its clip, as far as
    that was measured; the empty one where there are no captions."""
    import pyarrow.parquet as pq

    file = Path(selection) / "clips.parquet"
    names = pq.read_schema(file).names
    if "caption_fused" not in names:
        return [""]
    likeness = next((c for c in ("clip_fused", "conse_fused") if c in names), None)
    rows = pq.read_table(file, columns=[c for c in ("caption_fused", likeness) if c]).to_pylist()
    best = max(rows, key=lambda row: (bool(row["caption_fused"]), (likeness and row[likeness]) or 0), default={})
    return [best.get("caption_fused") or ""]
