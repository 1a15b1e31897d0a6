"""Decoding on an NVIDIA card's own decoder (NVDEC), through libav's CUDA acceleration.

Its pictures are those of the software decoder, bit for bit where the codec's standard says what they are (H.264, HEVC,
VP9, AV1); a stream that the card cannot decode is decoded in software. They come back to host memory with the chroma
planes interleaved, and are told apart again here.
"""

from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.frame import VideoFrame

from curation.errors import CurationError
from curation.scores.accelerator import cards

_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p012le": "yuv420p12le", "p016le": "yuv420p16le"}


def obstacle() -> str | None:
    """Why this machine cannot decode on a card, with the remedy; None if it can."""
    if "cuda" not in hwdevices_available():
        return "PyAV's libav was built without CUDA here; take decoder cpu (--decoder cpu)"
    if not cards():
        return "nvdec needs an NVIDIA card, and none can be seen here; take decoder cpu (--decoder cpu)"
    return None


def acceleration() -> HWAccel:
    """What `av.open` takes to decode on the card. Raises CurationError where that cannot be."""
    if why := obstacle():
        raise CurationError(f"decoder: {why}")
    return HWAccel("cuda", allow_software_fallback=True)


def planar(picture: VideoFrame) -> VideoFrame:
    """The same picture with each chroma in a plane of its own, and all that it says of itself; others as they are."""
    name = _PLANAR.get(picture.format.name)
    return picture if name is None else picture.reformat(format=name, threads=1)
