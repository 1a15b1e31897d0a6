"""One score's part of the page: its histogram, a slider over it, its bounds as numbers."""

from collections.abc import Awaitable, Callable

import numpy as np
from nicegui import events, ui

from curation.browse.filters import Bound
from curation.browse.scores import BARS, STEPS, Axis
from curation.inspect import printable
from curation.pictures import number

Changed = Callable[[str, Bound], Awaitable[None]]


class _Range(ui.range):
    LOOPBACK = False  # an echo of where the handle was would pull it back while it moves


class Panel:
    """Shows a score's bound and lets it be moved by slider, as numbers, and for clips that were not measured."""

    def __init__(self, name: str, unit: str, about: str, axis: Axis, missing: int, changed: Changed) -> None:
        self.name, self.axis, self._changed = name, axis, changed
        self.bound = Bound()
        self._quiet = False  # while one control follows another
        with ui.column().classes("w-full gap-0 py-1 border-b score") as box:
            box.props["data-score"] = name
            with ui.row().classes("w-full items-baseline gap-1 no-wrap"):
                ui.label(printable(name, 40)).classes("font-medium")
                ui.label(printable(unit, 20)).classes("text-xs text-gray-500")
                if about:
                    ui.tooltip(printable(about, 300))
            self._picture = ui.html(sanitize=False).classes("w-full")  # numbers alone
            self._slider = _Range(min=0, max=STEPS, step=1, on_change=self._slid).props("dense snap")
            with ui.row().classes("w-full items-center gap-2 no-wrap"):
                self._low = _number("at least", number(axis.low), self._typed)
                self._high = _number("at most", number(axis.high), self._typed)
                self._missing = ui.checkbox(f"{number(missing)} not measured", on_change=self._typed).props("dense")
                self._missing.classes("text-xs").tooltip("whether clips pass that could not be measured")
                self._missing.set_visibility(missing > 0)

    def show(self, bound: Bound, *, slid: bool = False) -> None:
        """Make the controls say this bound, and tell nobody. A slider that was moved is further on already."""
        self.bound, self._quiet = bound, True
        try:
            if not slid:
                low = 0.0 if bound.min is None else self.axis.step(bound.min)
                high = float(STEPS) if bound.max is None else self.axis.step(bound.max)
                self._slider.value = {"min": min(round(low), round(high)), "max": max(round(low), round(high))}
            self._low.value, self._high.value = bound.min, bound.max
            self._missing.value = bound.idle or bound.keep_missing
            self._missing.set_enabled(not bound.idle)
        finally:
            self._quiet = False

    def draw(self, every: np.ndarray, kept: np.ndarray) -> None:
        """The histograms of all clips and of those that pass, int64 (BARS,)."""
        self._picture.content = bars_svg(every, kept)

    async def _slid(self, event: events.ValueChangeEventArguments) -> None:
        if self._quiet or not event.value:
            return
        at, was = event.value, self.bound  # Quasar says null for the handle that rests
        low = was.min if at["min"] is None else self.axis.value(at["min"])
        high = was.max if at["max"] is None else self.axis.value(at["max"])
        await self._set(Bound(low, high, self.bound.keep_missing), slid=True)

    async def _typed(self, _: events.ValueChangeEventArguments) -> None:
        if self._quiet:
            return
        keep = bool(self._missing.value) and not self.bound.idle
        await self._set(Bound(_finite(self._low.value), _finite(self._high.value), keep))

    async def _set(self, bound: Bound, *, slid: bool = False) -> None:
        if bound != self.bound:
            self.show(bound, slid=slid)
            await self._changed(self.name, bound)


def bars_svg(every: np.ndarray, kept: np.ndarray) -> str:
    """Two histograms, int64 (BARS,), one before the other, as SVG that stretches to the slider's width."""
    top = max(int(every.max()), 1)
    tall = [np.where(n > 0, np.maximum(36 * n / top, 1.0), 0) for n in (every, kept)]  # one among millions is seen
    paths = ["".join(f"M{i}.1 36v{-h:.1f}h.8v{h:.1f}z" for i, h in enumerate(heights) if h > 0) for heights in tall]
    return (
        f'<svg viewBox="0 0 {BARS} 36" preserveAspectRatio="none" style="width:100%;height:36px;display:block">'
        f'<path d="{paths[0]}" fill="#d3d7dc"/><path d="{paths[1]}" fill="#1f6f6b"/></svg>'
    )


def _number(label: str, hint: str, changed: Callable[[events.ValueChangeEventArguments], Awaitable[None]]) -> ui.number:
    made = ui.number(label, placeholder=hint, on_change=changed).props("dense clearable debounce=500")
    return made.classes("w-24")


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
