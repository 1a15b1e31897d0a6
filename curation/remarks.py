"""What whoever makes or reads a manifest should hear of it beside its numbers."""

import shlex

import numpy as np

from curation.manifest import Manifest

TEXT_TOLERANCE = (
    0.01  # mean difference of the light text method from CRAFT, in shares of the picture, that is no warning
)


def text_check(manifest: Manifest) -> str | None:
    """How far RapidOCR's text area is from CRAFT's, in words; None where every area is CRAFT's (or there is none)."""
    columns = ["text_area", "text_area_craft"]
    if not set(columns) <= set(manifest.schema("clips").names):
        return None
    clips = manifest.read("clips", columns)
    both = clips.drop_null()
    if not len(both):
        return (
            f"warning: of {len(clips)} clips CRAFT checked none, which leaves RapidOCR's text area unchecked; "
            "clips are picked by their names: give a smaller --text.check-every"
        )
    light, craft = (both[c].to_numpy().astype(np.float64) for c in columns)
    mean = float(np.abs(light - craft).mean())
    told = f"text area by RapidOCR differs from CRAFT's by {mean:.3f} on average, over {len(both)} checked clips"
    if mean <= TEXT_TOLERANCE:
        return told
    return f"warning: {told}: more than {TEXT_TOLERANCE:g}, do not trust it (--text.method cascade is CRAFT's)"


def why_no_clip(manifest: Manifest) -> str:
    """Of a manifest without clips: what came of its videos and shots, and where to look."""
    look = f"see rushes inspect {shlex.quote(str(manifest.root))} --sql"
    shots = manifest.read("shots", ["start", "end"])
    if not len(shots):
        status = manifest.read("videos", ["status"])["status"].to_pylist()
        told = f"{status.count('failed')} of {len(status)} videos failed, and none has a shot"
        return f"{told}; {look} 'SELECT uri, step, message FROM errors'"
    longest = (shots["end"].to_numpy() - shots["start"].to_numpy()).max()
    settings = (manifest.config() or {}).get("clips", {})
    name = "stride_s" if settings.get("stride_s") else "min_length_s"
    least = settings.get(name)
    told = f"{len(shots)} shots, the longest of {longest:.2f} s"
    if least and longest < least:
        told += f", none as long as clips.{name} ({least:g} s)"
    return f"{told}; {look} 'SELECT uri, shot, start, \"end\", reason FROM shots'"
