"""The registry: every system is there, by its name, with stages that fit its networks."""

from pathlib import Path

import pytest
import torch

from models import registry, systems
from models.systems.recipe import System

SYSTEMS = [registry.system(name) for name in registry.NAMES]


def ids(system: System) -> str:
    return system.name


def test_all_eleven_are_there_once():
    assert len(registry.NAMES) == len(set(registry.NAMES)) == 11
    assert [s.name for s in SYSTEMS] == list(registry.NAMES)
    files = {p.stem for p in Path(systems.__path__[0]).glob("*.py") if "SYSTEM = System(" in p.read_text()}
    assert files == set(registry.NAMES)


@pytest.mark.parametrize("system", SYSTEMS, ids=ids)
def test_stages_name_networks_and_parents_that_there_are_and_train_something(system):
    networks = system.tiny()
    names = [stage.name for stage in system.stages]
    assert len(set(names)) == len(names)
    for at, stage in enumerate(system.stages):
        assert stage.network in networks
        assert stage.parent is None or stage.parent in names[:at]
        assert stage.parameters(networks[stage.network])


@pytest.mark.parametrize("system", SYSTEMS, ids=ids)
def test_published_sizes_are_met_or_it_is_said_why_not(system):
    sizes = registry.sizes(system)
    assert all(size > 1e7 for size in sizes.values())
    assert system.published or system.unpublished
    for network, published in system.published.items():
        assert sizes[network] == pytest.approx(published, rel=0.05)


def test_counting_takes_no_memory():
    with torch.device("meta"):
        network = registry.system("svd").paper_size()["image_to_video"]
    assert next(network.parameters()).is_meta


@pytest.mark.parametrize("system", SYSTEMS, ids=ids)
def test_every_network_can_be_made_on_the_meta_device_and_has_no_0_dim_parameter(system):
    """`fully_shard` refuses parameters without a dimension."""
    with torch.device("meta"):
        made = [system.tiny(), system.paper_size()]
    tensors = {name: t for networks in made for name, t in [*networks.named_parameters(), *networks.named_buffers()]}
    assert [name for name, tensor in tensors.items() if not tensor.is_meta] == []
    assert [name for name, tensor in tensors.items() if tensor.ndim == 0] == []


@pytest.mark.parametrize("system", SYSTEMS, ids=ids)
def test_a_network_made_on_the_meta_device_is_its_state(system):
    """All that a new network has is in its state: nothing is left without a value after loading."""
    whole = system.tiny().state_dict()
    with torch.device("meta"):
        made = system.tiny()
    made.load_state_dict(whole, assign=True)
    assert [name for name, t in [*made.named_parameters(), *made.named_buffers()] if t.is_meta] == []


def test_names_may_have_dashes_and_unknown_ones_are_refused_with_what_there_is():
    assert registry.system("make-a-video").name == "make_a_video"
    assert registry.system("SVD").name == "svd"
    with pytest.raises(ValueError, match=r"no system 'lumire'\. Did you mean lumiere\? There are vdm, "):
        registry.system("lumire")
