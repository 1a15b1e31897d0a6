import hashlib

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from models.layers.temporal import Mix
from training import checkpoint as checkpoints
from training.checkpoint import Lineage
from training.ema import EMA
from training.errors import TrainingError

LINEAGE = Lineage(
    "id", "image_pretrain", {"seed": 1}, {"width": 8}, {"content_hash": "c"}, "", {"scorer": "motion"}, 12
)


def trained(steps=3):
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer, ema = torch.optim.AdamW(network.parameters(), lr=0.1), EMA(network, 10)
    for i in range(steps):
        step(network, optimizer)
        ema.update(network, 4 * (i + 1), 4)
    return network, ema, optimizer


def step(network, optimizer):
    optimizer.zero_grad()
    network(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()


def test_round_trip_is_exact(tmp_path):
    network, ema, optimizer = trained()
    checkpoints.save(tmp_path / checkpoints.FILE, LINEAGE, network, ema, optimizer)
    loaded = checkpoints.load(tmp_path)
    assert loaded.lineage == LINEAGE == checkpoints.read_lineage(tmp_path / checkpoints.FILE)
    assert all(torch.equal(loaded.weights[k], v) for k, v in network.state_dict().items())
    assert all(torch.equal(loaded.ema[k], v) for k, v in ema.weights.items())


def test_a_restored_optimizer_goes_on_as_the_old_one(tmp_path):
    network, ema, optimizer = trained()
    checkpoints.save(tmp_path / "c.safetensors", LINEAGE, network, ema, optimizer)
    loaded = checkpoints.load(tmp_path / "c.safetensors")
    other = nn.Linear(3, 2)
    other.load_state_dict(loaded.weights)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    checkpoints.restore_optimizer(other_optimizer, other, loaded.optimizer)
    for _ in range(4):
        step(network, optimizer)
        step(other, other_optimizer)
    assert torch.equal(other.weight, network.weight)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        checkpoints.write_atomic(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(TrainingError, match="does not exist"):
        checkpoints.load(tmp_path)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        checkpoints.load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(TrainingError, match="not a checkpoint of this project"):
        checkpoints.load(path)
    save_file({"x": torch.zeros(1)}, path, {"rushes": '{"format": 99}'})
    with pytest.raises(TrainingError, match="format 99"):
        checkpoints.read_lineage(path)


def test_file_hash_is_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert checkpoints.file_hash(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_code_version_names_release_and_sources():
    release, sources = checkpoints.code_version().split("+")
    assert release
    assert len(sources) == 12


def test_a_run_goes_on_from_a_checkpoint_with_0_dim_factors(tmp_path):
    """`Mix.factor` had no dimension once. AdamW's step counter has none."""
    torch.manual_seed(0)
    network = Mix(0.5)
    optimizer, ema = torch.optim.AdamW(network.parameters(), lr=0.1), EMA(network, 10)

    def step(network, optimizer, ema):
        optimizer.zero_grad()
        network(torch.ones(2, 3), torch.zeros(2, 3)).sum().backward()
        optimizer.step()
        ema.update(network, 4, 4)

    step(network, optimizer, ema)
    checkpoints.save(tmp_path / "new.safetensors", LINEAGE, network, ema, optimizer)
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    old = {key: tensor.reshape(()) for key, tensor in tensors.items()}
    save_file(old, tmp_path / "old.safetensors", metadata)
    loaded = checkpoints.load(tmp_path / "old.safetensors")
    other = Mix(0.5)
    other.load_state_dict(loaded.weights)
    other_optimizer, other_ema = torch.optim.AdamW(other.parameters(), lr=0.1), EMA(other, 10)
    checkpoints.restore_optimizer(other_optimizer, other, loaded.optimizer)
    other_ema.weights = loaded.ema
    step(network, optimizer, ema)
    step(other, other_optimizer, other_ema)
    assert torch.equal(other.factor, network.factor)
    assert torch.equal(other_ema.weights["factor"], ema.weights["factor"])
