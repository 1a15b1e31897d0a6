"""The page on autoencoders: its example runs, it names every piece, and the tests it points to exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "systems" / "autoencoders.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TESTS = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)
PIECES = ["base", "kl", "temporal", "small", "discriminator", "losses"]
# layers and numbers that the pieces are made of
BEHIND = {
    "Autoencoder", "KLConfig", "TemporalConfig", "SmallConfig", "ResBlock", "Attention", "Middle", "Downsample",
    "Upsample", "Down", "Up", "Encoder", "Decoder", "TemporalResBlock", "TimeMixer", "SpatioTemporalResBlock",
    "TemporalMiddle", "TemporalUp", "TemporalDecoder", "Block", "FrameNorm", "by_frames", "windows", "save_small",
    "load_small", "hinge_discriminator_loss", "hinge_generator_loss", "absolute_error", "kl_per_value", "unit",
}  # fmt: skip


def test_the_example_runs_and_trains_the_temporal_layers():
    torch.manual_seed(0)
    names: dict = {}
    exec(EXAMPLE, names)
    assert names["latents"].shape == (1, 4, 4, 8, 8)
    assert names["pixels"].shape == names["clip"].shape
    assert set(names["terms"]) == {"reconstruction", "adversarial0"}
    assert (names["video"].pixels(names["latents"]) - names["pixels"]).abs().max() > 0


@pytest.mark.parametrize("name", PIECES)
def test_every_piece_is_on_the_page(name):
    source = (ROOT / "models" / "autoencoders" / f"{name}.py").read_text()
    defined = re.findall(r"^(?:class|def) ([A-Za-z]\w*)", source, re.MULTILINE)
    assert defined
    assert [d for d in defined if d not in BEHIND and d not in PAGE] == []


def test_every_statement_has_tests_that_exist():
    rows = [line for line in PAGE.split("## Statements and their tests")[1].splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert all("::test_" in row for row in rows)
    for file, name in TESTS:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


def test_every_option_that_the_page_names_is_one():
    from training.autoencoder import parser

    options = set(re.findall(r"--[a-z][a-z0-9-]+", PAGE))
    assert {"--pack", "--compile", "--perceptual"} <= options <= set(parser()._option_string_actions)
