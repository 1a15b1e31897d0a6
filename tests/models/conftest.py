"""Property tests here run tensors on a shared machine: the first example pays for lazy imports, so no deadline; and
torch has one thread, since several test processes share the cores."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("rushes", deadline=None)
settings.load_profile("rushes")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads for the time of a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
