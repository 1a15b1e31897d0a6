"""Decode on an NVIDIA GPU's video decoder (NVDEC), through libav's CUDA acceleration.

Frames are bit-identical to those of the software decoder for codecs whose standard defines the output exactly (H.264,
HEVC, VP9, AV1). A stream that the GPU cannot decode is decoded in software. NVDEC returns frames in host memory with
interleaved chroma; `planar` separates the chroma planes.
"""

from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.frame import VideoFrame

from curation.errors import CurationError
from curation.scores.accelerator import cards

_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p012le": "yuv420p12le", "p016le": "yuv420p16le"}


def obstacle() -> str | None:
    """Return why this machine cannot decode on a GPU, and the remedy; None if it can."""
    if "cuda" not in hwdevices_available():
        return "nvdec needs CUDA, but PyAV was built without CUDA; use `--decoder cpu`"
    if not cards():
        return "nvdec needs an NVIDIA GPU, and none is visible on this machine; use `--decoder cpu`"
    return None


def acceleration() -> HWAccel:
    """Return the `hwaccel` argument of `av.open`. Raises CurationError if this machine cannot decode on a GPU."""
    if why := obstacle():
        raise CurationError(f"decoder: {why}")
    return HWAccel("cuda", allow_software_fallback=True)


def planar(picture: VideoFrame) -> VideoFrame:
    """Convert a semi-planar frame to planar, with its metadata; return frames of other formats unchanged."""
    name = _PLANAR.get(picture.format.name)
    return picture if name is None else picture.reformat(format=name, threads=1)
