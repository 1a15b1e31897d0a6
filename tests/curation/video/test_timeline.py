"""Times of frames from right and wrong stamps, next to the times that the stamps were made of."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.video.timeline import Stamped, Timeline, first_stamp, stamp_at

TICK, STEP = 1 / 1000, 40


def placed(
    stamps: Sequence[int | None],
    decoding: Sequence[int | None] | None = None,
    reordered: int = 0,
    packets_rise: bool = False,
    jumps: bool = False,
    duration: int | None = STEP,
) -> tuple[list[float | None], Timeline]:
    """Times in milliseconds, and the timeline that gave them."""
    timeline = Timeline(TICK, 25, jumps)
    frames = [
        Stamped(i, stamp, duration, decoding[i] if decoding else stamp if stamp is not None else None)
        for i, stamp in enumerate(stamps)
    ]
    found = list(timeline.place(frames, lambda: reordered, lambda: packets_rise))
    assert [p.item for p in found] == list(range(len(stamps)))
    return [None if p.time is None else round(p.time * 1000, 6) for p in found], timeline


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40), st.integers(-1000, 10**9), st.integers(0, 3))
def test_rising_stamps_are_the_times(gaps: list[int], first: int, reordered: int):
    stamps = list(itertools.accumulate(gaps, initial=first))
    times, timeline = placed(stamps, reordered=reordered, duration=None)
    if timeline.repaired:  # a last stamp that is crowded after an even rate is the one exception
        times, stamps = times[:-1], stamps[:-1]
    assert times == [s - first for s in stamps]
    assert timeline.first == first


def even(count: int) -> list[int | None]:
    return [1000 + STEP * i for i in range(count)]


@pytest.mark.parametrize("lost", [{5}, {5, 6, 7}, {0}, {0, 1}, {19}, {3, 9, 15}])
def test_a_missing_stamp_continues_where_the_frame_before_ended(lost: set[int]):
    stamps = [None if i in lost else s for i, s in enumerate(even(20))]
    times, _ = placed(stamps)
    assert times == [STEP * i for i in range(20)]


@pytest.mark.parametrize("wrong", [1000, 1000 + 9 * STEP, 999_999, 1000 + 15 * STEP, -5, 1000 + 10 * STEP + 4000])
@pytest.mark.parametrize("jumps", [False, True])
def test_one_wrong_stamp_costs_no_frame_and_moves_no_other(wrong: int, jumps: bool):
    stamps = even(20)
    stamps[10] = wrong
    times, timeline = placed(stamps, jumps=jumps)
    assert times == [STEP * i for i in range(20)]
    assert timeline.repaired


def test_a_stamp_that_repeats_without_room_is_shown_for_no_time():
    stamps = [*even(10), *even(12)[9:]]
    times, _ = placed(stamps)
    assert times == [*(STEP * i for i in range(10)), None, 10 * STEP, 11 * STEP]


@pytest.mark.parametrize(("offset", "jumps"), [(0, False), (0, True), (-500_000, True), (3_000_000, True)])
def test_a_clock_that_starts_again_continues_the_footage(offset: int, jumps: bool):
    stamps = [*even(50), *(s + offset for s in even(50))]
    times, timeline = placed(stamps, jumps=jumps)
    assert times == [STEP * i for i in range(100)]
    assert timeline.repaired


def test_a_gap_is_a_frame_that_is_held():
    stamps = [*even(10), *(s + 30_000 for s in even(10))]
    times, timeline = placed(stamps)
    assert times == [s - 1000 for s in stamps]
    assert not timeline.repaired


def test_a_stamp_hours_away_is_marked():
    timeline = Timeline(TICK, 25)
    stamps = [*even(5), *(s + 4_000_000 for s in even(5))]
    found = list(timeline.place((Stamped(s, s, STEP) for s in stamps), lambda: 0, lambda: False))
    assert [p.leaped for p in found] == [i == 5 for i in range(10)]


def coded(kinds: str) -> tuple[list[int], list[int]]:
    """Frames of these kinds in the order of display, whose container stores decoding order only: each frame's stamp,
    and the decoding time of the packet at which a decoder with one frame of delay gives it."""
    order, waiting = [], []
    for shown, kind in enumerate(kinds):
        waiting.append(shown)
        if kind != "B":
            order += [waiting[-1], *waiting[:-1]]
            waiting.clear()
    order += waiting
    stamp = {shown: STEP * packet for packet, shown in enumerate(order)}
    return [stamp[i] for i in range(len(kinds))], [STEP * (i + 1) for i in range(len(kinds))]


@pytest.mark.parametrize("kinds", ["I" + "BP" * 15, "I" + "BBP" * 10, "I" + "BBBP" * 8, "IPPPPPPPPPPPPPPP" + "BP" * 10])
def test_stamps_in_decoding_order_become_even_times(kinds: str):
    stamps, decoding = coded(kinds)
    times, timeline = placed(stamps, decoding, reordered=1, packets_rise=True)
    assert times == [STEP * i for i in range(len(kinds))]
    assert timeline.repaired


@given(st.integers(1, 30), st.integers(0, 3))
def test_a_copy_goes_on_as_the_original_does(cut: int, wrong: int):
    stamps: list[int | None] = [*even(40), *even(40)]
    stamps[cut + 1] = None if wrong == 1 else stamps[cut + 1]
    whole, _ = placed(stamps)
    timeline, found = Timeline(TICK, 25), []
    frames = (Stamped(s, s, STEP, s) for s in stamps)
    for number, p in enumerate(timeline.place(frames, lambda: 0, lambda: False)):
        found.append(p.time)
        if number == cut:
            break
    rest = (Stamped(s, s, STEP, s) for s in stamps[cut + 1 :])
    found += [p.time for p in timeline.copy().place(rest, lambda: 0, lambda: False)]
    assert [round(t * 1000, 6) for t in found if t is not None] == [t for t in whole if t is not None]


@given(st.integers(0, 10**6), st.integers(-(10**9), 10**9), st.sampled_from([12800, 90000, 1000, 25, 30000]))
def test_stamps_of_frames_and_times_lead_back_to_the_first_stamp(ticks: int, first: int, rate: int):
    base = Fraction(1, rate)
    seconds = ticks * float(base)
    assert stamp_at(seconds, first, base) == first + ticks
    assert first_stamp(seconds, first + ticks, base) == first
