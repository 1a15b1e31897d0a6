"""Property tests here run tensors on a shared machine: the first example pays for lazy imports, so no deadline."""

from hypothesis import settings

settings.register_profile("rushes", deadline=None)
settings.load_profile("rushes")
