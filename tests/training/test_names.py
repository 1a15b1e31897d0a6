from models.registry import NAMES
from training.names import SampleSystem, SystemName


def test_what_can_be_named_is_exactly_the_registry():
    """For training or for sampling; control_video for both."""
    named = [*SystemName, *(s for s in SampleSystem if s != SampleSystem.auto)]
    assert {str(name) for name in named} == set(NAMES)
    assert [str(s) for s in SystemName] == [name for name in NAMES if name in set(SystemName)]
