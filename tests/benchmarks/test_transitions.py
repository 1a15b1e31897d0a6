"""Synthetic videos against their own labels, and the report by kind."""

import numpy as np

from benchmarks.transitions import FPS, HEIGHT, WIDTH, Footage, _encode, by_kind, synthesise
from curation.video.decoder import Decoder


def flat_shots() -> list[tuple[str, np.ndarray]]:
    shades = np.linspace(40, 220, 6).astype(np.uint8)
    return [(str(shade), np.full((40, 216, 384, 3), shade, np.uint8)) for shade in shades]


def test_labels_are_where_the_pictures_change() -> None:
    for seed in (0, 1, 7, 43):  # of the plain style; in the last one lightning follows a fade
        film = synthesise(flat_shots(), seed)
        calm = np.ones(len(film.frames), bool)
        for a, z, _ in film.distractions:
            calm[a : z + 1] = False
        for a, *_, z in film.labels["fades"]:
            calm[a : z + 1] = False
        for a, z, _ in film.labels["gradual"]:
            calm[a : z + 1] = False
        shade = np.array([frame.mean() for frame in film.frames])
        stepped = {i for i in range(1, len(shade)) if abs(shade[i] - shade[i - 1]) > 5 and calm[i] and calm[i - 1]}
        assert stepped == {c for c in film.labels["cuts_frames"] if calm[c] and calm[c - 1]}
        assert stepped, "no cut was looked at"
        again = synthesise(flat_shots(), seed)
        assert all(np.array_equal(a, b) for a, b in zip(film.frames, again.frames, strict=True))


def test_the_file_has_every_frame(tmp_path) -> None:
    rng = np.random.default_rng(0)
    frames = [np.full((HEIGHT, WIDTH, 3), shade, np.uint8) for shade in rng.integers(20, 230, 30)]
    _encode(frames, str(tmp_path / "a.mkv"), "ffv1", {})
    back = [frame.small_bgr(WIDTH) for frame in Decoder(str(tmp_path / "a.mkv"))]
    assert Decoder(str(tmp_path / "a.mkv")).info.fps == FPS
    np.testing.assert_allclose(np.array(back, float), np.array(frames, float), atol=3)


def test_boundaries_by_kind() -> None:
    labels = {"cuts_frames": [10], "fades": [[40, 50, 55, 60]], "gradual": [[100, 120, "wipe"]], "uncertain_cuts": []}
    film = Footage("003 film", [], labels, {40: "fade black", 100: "wipe"}, [(70, 75, "whip")])
    hit, false = by_kind([11, 58, 72, 90, 130], film)
    assert hit == {"fade black": 1}
    assert false == {"whip": 1, "film": 2}
