"""Low and high frame rates, and delays of GIFs."""

from tests.formats.make import H264, Film, encoded, gif_delays
from tests.formats.row import LOW, Row

ROWS = [
    *(
        Row(f"rate_{r.replace('/', '_')}.mp4", "frame rate", f"{r} frames a second", encoded(H264, Film(n, r)), n, r)
        for r, n in (("5", 20), ("24000/1001", 60), ("60", 120), ("120", 240), ("240", 300), ("480", 600))
    ),
    Row("rate_1.mkv", "frame rate", "one frame a second", encoded(H264, Film(12, "1")), 12, "1"),
    Row(
        "lapse.avi",
        "frame rate",
        "a frame every 20 s, in AVI",
        encoded(f"{LOW} -bf 0", Film(12, "1/20")),
        12,
        "1/20",
        codec="mpeg4",
        clips=False,
    ),
    Row(
        "lapse.mkv",
        "frame rate",
        "a frame every 30 s",
        encoded(H264, Film(12, "1/30")),
        12,
        "1/30",
        clips=False,
        tolerance=0.01,
    ),
    Row("lapse.ts", "frame rate", "a frame every 5 s, in TS", encoded(H264, Film(12, "1/5")), 12, "1/5", clips=False),
    Row(
        "delays_10.gif",
        "frame rate",
        "GIF with 10 ms delays",
        gif_delays(encoded("-gifflags -transdiff"), lambda n: 1),
        rate="10",
        codec="gif",
        converted="delays below 20 ms are 100 ms, as browsers show them",
        independent=False,
        psnr=20,
    ),
    Row(
        "delays_0.gif",
        "frame rate",
        "GIF with delays of 0",
        gif_delays(encoded("-gifflags -transdiff"), lambda n: 0),
        rate="10",
        codec="gif",
        converted="delays below 20 ms are 100 ms, as browsers show them",
        independent=False,
        psnr=20,
    ),
    Row(
        "delays_20.gif",
        "frame rate",
        "GIF with 20 ms delays",
        gif_delays(encoded("-gifflags -transdiff"), lambda n: 2),
        rate="50",
        codec="gif",
        psnr=20,
    ),
    Row(
        "delays_mixed.gif",
        "frame rate",
        "GIF with delays of 10 ms and 70 ms",
        gif_delays(encoded("-gifflags -transdiff"), lambda n: 1 if n % 2 else 7),
        codec="gif",
        psnr=20,
        times=lambda n: 0.17 * (n // 2) + 0.07 * (n % 2),
        independent=False,
        converted="delays below 20 ms are 100 ms, as browsers show them",
    ),
]
