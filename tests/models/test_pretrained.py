"""Folders of weights: whole, sharded, in a variant, and everything that may be wrong with one."""

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.pretrained import PretrainedError, check_parts, load, settings


@dataclass(frozen=True)
class Sizes:
    width: int = 3
    levels: tuple[int, ...] = (1, 2)


class Small(nn.Module):
    """A network of two layers and a buffer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, 4), nn.Linear(4, 2, bias=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @classmethod
    def from_config(cls, config):
        return cls(settings(config, Sizes, "Small", {"act": "silu", "drop": (0, None)}, {"sample_size"}).width)


@pytest.fixture
def folder(tmp_path):
    """A folder with a configuration and weights, as downloads are."""
    torch.manual_seed(0)
    config = {"_class_name": "Small", "_diffusers_version": "0.6.0", "width": 5, "act": "silu", "sample_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = {**Small(5).state_dict(), "count": torch.tensor(7)}
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    return tmp_path


def weights(folder):
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def rewrite(folder, state):
    save_file(state, folder / "diffusion_pytorch_model.safetensors")


def set_config(folder, **changed):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def shard(folder, variant=""):
    """The same weights in two files and an index, named as diffusers names them."""
    state = weights(folder)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    keys = sorted(state)
    where = {}
    for i, part in enumerate((keys[:2], keys[2:]), start=1):
        name = f"diffusion_pytorch_model{variant}-{i:05}-of-00002.safetensors"
        save_file({key: state[key] for key in part}, folder / name)
        where |= dict.fromkeys(part, name)
    index = folder / f"diffusion_pytorch_model.safetensors.index{variant}.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return index


def test_a_folder_becomes_a_network(folder):
    network, state = load(Small, folder), weights(folder)
    assert network.first.in_features == 5
    assert network.training
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
    assert all(p.requires_grad and p.device.type == "cpu" for p in network.parameters())


def test_shards_are_read_as_one(folder):
    whole = load(Small, folder).state_dict()
    shard(folder)
    assert all(torch.equal(tensor, whole[key]) for key, tensor in load(Small, folder).state_dict().items())


@pytest.mark.parametrize("sharded", [False, True])
def test_a_variant_is_read_where_asked_for(folder, sharded):
    whole = load(Small, folder).state_dict()
    if sharded:
        shard(folder, ".fp16")
    else:
        plain = folder / "diffusion_pytorch_model.safetensors"
        plain.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    assert all(torch.equal(t, whole[key]) for key, t in load(Small, folder, variant="fp16").state_dict().items())
    with pytest.raises(PretrainedError, match="of variant fp16; ask for it"):
        load(Small, folder)


def test_dtype_is_for_numbers_that_have_one(folder):
    network = load(Small, folder, dtype=torch.bfloat16)
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert network.count == 7
    assert network.count.dtype is torch.int64
    assert torch.equal(network.first.weight, weights(folder)["first.weight"].bfloat16())


def test_device(folder):
    assert {p.device.type for p in load(Small, folder, device="meta").parameters()} == {"meta"}


def test_the_network_outlives_its_file(folder):
    network, state = load(Small, folder), {key: tensor.clone() for key, tensor in weights(folder).items()}
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def test_old_names_are_given_new_ones(folder):
    rewrite(folder, {key.replace("first", "one"): tensor for key, tensor in weights(folder).items()})
    with pytest.raises(PretrainedError, match=r"2 missing: first.bias, first.weight; 2 unexpected: one.bias"):
        load(Small, folder)
    load(Small, folder, rename=lambda key: key.replace("one", "first"))


def test_shapes_are_checked(folder):
    rewrite(folder, weights(folder) | {"second.weight": torch.zeros(3, 4)})
    with pytest.raises(PretrainedError, match=r"second.weight \(3, 4\) for \(2, 4\)\. Take both from the same"):
        load(Small, folder)


def test_many_wrong_keys_are_counted(folder):
    rewrite(folder, weights(folder) | {f"lora.{i}": torch.zeros(1) for i in range(9)})
    with pytest.raises(PretrainedError, match=r"9 unexpected: lora.0, lora.1, .* and 4 more"):
        load(Small, folder)


def test_unknown_and_unsupported_settings_are_all_named(folder):
    set_config(folder, act="gelu", drop=0.5, rope=True, levels=[4, 5])
    with pytest.raises(PretrainedError) as error:
        load(Small, folder)
    for said in ("act = 'gelu' (supported: 'silu')", "drop = 0.5 (supported: 0, None)", "rope (unknown)"):
        assert said in str(error.value)
    assert "levels" not in str(error.value)


def test_lists_are_tuples_and_what_is_not_said_is_the_default():
    assert settings({"levels": [4, 5], "_name_or_path": "x"}, Sizes, "Small", {}) == Sizes(3, (4, 5))


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("width", "4", "a whole number, at least 1"),
        ("width", -4, "a whole number, at least 1"),
        ("width", 0, "a whole number, at least 1"),
        ("width", 4.0, "a whole number, at least 1"),
        ("width", True, "a whole number, at least 1"),
        ("width", [4, 4], "a whole number, at least 1"),
        ("levels", None, "a list, each a whole number, at least 1"),
        ("levels", [], "a list, each a whole number, at least 1"),
        ("levels", [4, "4"], "a list, each a whole number, at least 1"),
        ("eps", "x", "a number or null"),
        ("eps", float("nan"), "a number or null"),
        ("linear", 1, "true or false"),
        ("kinds", ["a", 1], "a list, each a text"),
    ],
)
def test_settings_of_another_type_are_refused_by_name_and_file(folder, setting, value, said):
    @dataclass(frozen=True)
    class Typed(Sizes):
        eps: float | None = 1.0
        linear: bool = False
        kinds: tuple[str, ...] = ("a",)

    class Strict(Small):
        @classmethod
        def from_config(cls, config):
            return cls(settings(config, Typed, "Small", {"act": "silu"}, {"sample_size"}).width)

    assert load(Strict, folder).first.in_features == 5
    set_config(folder, **{setting: value})
    with pytest.raises(PretrainedError) as error:
        load(Strict, folder)
    assert str(folder / "config.json") in str(error.value)
    assert f"{setting} = {value!r} (must be {said})" in str(error.value)


def test_sizes_that_no_tensor_has_are_refused_with_the_file(folder):
    set_config(folder, width=2**62)
    with pytest.raises(PretrainedError, match="config.json"):
        load(Small, folder)


@pytest.mark.parametrize("dtype", [torch.int8, "float16"])
def test_a_dtype_that_is_not_of_floats_is_refused(folder, dtype):
    with pytest.raises(PretrainedError, match=r"dtype = .*floats"):
        load(Small, folder, dtype=dtype)


@pytest.mark.parametrize("number", [0, 3])
def test_parts_that_do_not_divide_are_refused_by_the_settings_name(number):
    check_parts("heads", "heads", (4, 8), (2, 8))
    with pytest.raises(ValueError, match=f"groups_of: 8 channels do not give {number} groups"):
        check_parts("groups_of", "groups", (4, 8), (2, number))


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_shards_without_their_index_say_so(folder, variant):
    index = shard(folder, variant)
    index.unlink()
    with pytest.raises(PretrainedError, match=f"has shards but lacks their index: download {index.name} too"):
        load(Small, folder, variant=variant[1:] or None)


def test_settings_that_contradict_each_other_are_refused():
    @dataclass(frozen=True)
    class Even(Sizes):
        def __post_init__(self):
            if self.width % 2:
                raise ValueError(f"width {self.width} is odd")

    with pytest.raises(PretrainedError, match="a Small whose config.json does not fit together: width 5 is odd"):
        settings({"width": 5}, Even, "Small", {})


def test_another_network_is_refused(folder):
    set_config(folder, _class_name="AutoencoderKL")
    with pytest.raises(PretrainedError, match="that of an AutoencoderKL, not of a Small"):
        load(Small, folder)


def test_a_pipeline_is_refused_with_its_parts(folder, tmp_path_factory):
    pipeline = tmp_path_factory.mktemp("pipeline")
    for part in ("unet", "vae"):
        (pipeline / part).mkdir()
        (pipeline / part / "config.json").write_text("{}")
    with pytest.raises(PretrainedError, match="give one of its folders: unet, vae"):
        load(Small, pipeline)
    with pytest.raises(PretrainedError, match="give the folder of one network"):
        load(Small, pipeline / "nowhere")


@pytest.mark.parametrize(("text", "match"), [("{", "is no JSON"), ("[]", "no settings by name")])
def test_a_broken_configuration_is_refused(folder, text, match):
    (folder / "config.json").write_text(text)
    with pytest.raises(PretrainedError, match=match):
        load(Small, folder)


def test_a_folder_without_weights_says_what_there_is_instead(folder):
    with pytest.raises(PretrainedError, match="weights without a variant; leave it out"):
        load(Small, folder, variant="fp16")
    plain = folder / "diffusion_pytorch_model.safetensors"
    plain.rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(PretrainedError, match="pickled weights"):
        load(Small, folder)
    (folder / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(PretrainedError, match="download the weights too"):
        load(Small, folder)


def test_missing_shards_and_a_broken_index_are_refused(folder):
    index = shard(folder)
    (folder / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(PretrainedError, match=r"lacks 1 of 2 shards: download diffusion_pytorch_model-00002-of-00002"):
        load(Small, folder)
    index.write_text("{}")
    with pytest.raises(PretrainedError, match="no index of shards"):
        load(Small, folder)


def test_a_shard_named_outside_the_folder_is_not_read(folder):
    index = shard(folder)
    (folder / "diffusion_pytorch_model-00001-of-00002.safetensors").rename(folder.parent / "elsewhere.safetensors")
    where = json.loads(index.read_text())["weight_map"]
    moved = {k: v.replace("diffusion_pytorch_model-00001-of-00002", "../elsewhere") for k, v in where.items()}
    index.write_text(json.dumps({"weight_map": moved}))
    with pytest.raises(PretrainedError, match="download elsewhere.safetensors"):
        load(Small, folder)


@pytest.mark.parametrize("size", [0, 60, -3])
def test_half_a_file_is_refused(folder, size):
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(PretrainedError, match="is no whole safetensors file"):
        load(Small, folder)


def test_a_pointer_is_refused(folder):
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438167540\n")
    with pytest.raises(PretrainedError, match="git-lfs's pointer"):
        load(Small, folder)


def test_a_buffer_that_no_file_holds_is_a_mistake_of_ours(folder):
    class Forgetful(Small):
        def __init__(self, width):
            super().__init__(width)
            self.register_buffer("table", torch.ones(2), persistent=False)

    with pytest.raises(TypeError, match="Forgetful has buffers that no file holds: \\['table'\\]"):
        load(Forgetful, folder)
