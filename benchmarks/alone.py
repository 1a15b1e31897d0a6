"""A mode of a benchmark in a process of its own, so that its peak of memory is its own too."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alone:
    """Seconds, those of all cores together, the most memory that the process held in GB, and what the mode said.

    Seconds of CPU tell where the machine has other work."""

    seconds: float
    busy: float
    gigabytes: float
    said: str


def alone(mode: Callable[..., str], *args: object) -> Alone:
    """Do it and measure it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (mode, *args))


def tell(name: str, mode: Callable[..., str], *args: object) -> Alone:
    """The same, and print a line."""
    found = alone(mode, *args)
    times = f"{found.seconds:7.2f} s {found.busy:7.2f} s of CPU {found.gigabytes:6.2f} GB"
    print(f"{name:<28}{times}   {found.said}", flush=True)
    return found


def peak_gb() -> float:
    """The most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _measure(mode: Callable[..., str], *args: object) -> Alone:
    began, used = time.perf_counter(), time.process_time()
    said = mode(*args)
    return Alone(time.perf_counter() - began, time.process_time() - used, peak_gb(), said)
