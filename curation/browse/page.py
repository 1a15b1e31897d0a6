"""The inspector's page: sliders, the count they give, the clips behind it, and the policy that says the same."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from fastapi import FastAPI
from nicegui import events, ui

from curation.browse import detail, server
from curation.browse.clips import Clips, Videos
from curation.browse.filters import Bound, reasons, to_policy, to_yaml
from curation.browse.panel import Panel
from curation.browse.scores import Scores
from curation.browse.verdicts import Verdicts
from curation.errors import CurationError
from curation.inspect import note, printable
from curation.pictures import number

PER_PAGE = (25, 50, 100)
_PICTURE = (
    '<q-td :props="props"><img :src="props.row.preview" loading="lazy" alt="" style="height:54px;min-width:96px" '
    "onerror=\"this.style.visibility='hidden'\"></q-td>"
)


@dataclass(frozen=True, slots=True)
class Inspected:
    """A manifest as the page sees it. Pages share it and change nothing of it."""

    name: str
    scores: Scores
    clips: Clips
    verdicts: Verdicts
    start: dict[str, Bound]

    @classmethod
    def open(cls, manifest: str, selection: str = "", policy: str = "") -> "Inspected":
        """Read a manifest's numbers, and what a selection or a policy makes of them. A policy sets the sliders.

        Raises:
            CurationError: something cannot be read, or does not belong together.
        """
        clips = Clips(manifest)
        verdicts = Verdicts.of_selection(clips, selection) if selection else Verdicts.of_policy(clips, policy)
        name = clips.root.parent.name if clips.root.name == "manifest" else clips.root.name
        scores = Scores.load(manifest)
        known = {score: bound for score, bound in verdicts.bounds.items() if score in scores.columns}
        return cls(name, scores, clips, verdicts, known)


def serve(manifest: str, *, selection: str = "", policy: str = "", port: int = 0) -> None:
    """Serve a manifest's page on 127.0.0.1 until interrupted.

    Raises:
        CurationError: what `Inspected.open` and `server.run` raise.
    """
    inspected = Inspected.open(manifest, selection, policy)
    app = server.application(inspected.clips, Videos(manifest))
    attach(app, inspected, sliders_set=bool(policy))
    server.run(app, port)


def attach(app: FastAPI, inspected: Inspected, *, sliders_set: bool = False) -> None:
    """Put the page at / of an application."""

    def root() -> None:
        Page(inspected).build(inspected.start if sliders_set else {})

    title = f"{printable(inspected.name, 60)} – Rushes"
    ui.run_with(app, root=root, title=title, tailwind=True, show_welcome_message=False)


class Page:
    """One tab's state: the bounds, what they leave, and the order it is shown in."""

    def __init__(self, inspected: Inspected) -> None:
        self.data = inspected
        self.bounds: dict[str, Bound] = {}
        self.view = inspected.scores.everything
        self.panels: dict[str, Panel] = {}
        self._text, self._side = "", "all"
        self._asked = 0
        self._looking = asyncio.Lock()
        self._found: tuple[str, np.ndarray] | None = None
        self._order: tuple[Any, str | None, bool, np.ndarray] | None = None

    def build(self, bounds: dict[str, Bound]) -> None:
        """Lay the page out and ask for the first clips."""
        with ui.header().classes("items-center bg-slate-800 py-2"):
            ui.label(printable(self.data.name, 60)).classes("text-lg")
            self.count = ui.label().classes("text-lg font-bold").props("id=count")
            self.busy = ui.spinner(color="white").props("id=busy")
            ui.space()
            ui.button("All clips", on_click=lambda: self._set_all({})).props("flat color=white no-caps")
            if self.data.start:
                as_in = f"As in {printable(self.data.verdicts.name, 50)}"
                ui.button(as_in, on_click=lambda: self._set_all(self.data.start)).props("flat color=white no-caps")
            ui.button("Export as policy", on_click=self._export).props("id=export no-caps")
        with ui.left_drawer(value=True, bordered=True).props("width=330 behavior=desktop").classes("gap-0 p-3"):
            for name, axis in self.data.scores.axes.items():
                field, missing = self.data.scores.fields[name], self.data.scores.missing[name]
                about = note(field, "description")
                self.panels[name] = Panel(name, note(field, "unit"), about, axis, missing, self._moved)
        with ui.row().classes("w-full items-center"):
            search = ui.input("in captions and paths", on_change=self._typed)
            search.props("dense clearable outlined debounce=600 id=search").classes("w-96")
            if self.data.verdicts.fell is not None:
                sides = {"all": "all", "kept": "kept", "fell": "fell"}
                ui.toggle(sides, value="all", on_change=self._chose).props("no-caps dense")
                ui.label(f"by {printable(self.data.verdicts.name, 80)}").classes("text-gray-600")
        self.table = self._grid()
        self.dialog = ui.dialog().props("full-width")
        self.dialog.on("hide", self.dialog.clear)  # no player goes on unseen
        for name, panel in self.panels.items():
            self._take(name, bounds.get(name, Bound()))
            panel.show(bounds.get(name, Bound()))
        ui.timer(0, self._refresh, once=True)

    def _grid(self) -> ui.table:
        columns: list[dict[str, Any]] = [
            {"name": "preview", "label": "", "field": "preview", "align": "left"},
            {"name": "video", "label": "video", "field": "video", "align": "left"},
            {"name": "at", "label": "from, to [s]", "field": "at", "align": "left"},
            {"name": "text", "label": "caption", "field": "text", "align": "left", "style": _CAPTION},
        ]
        for name in self.data.scores.columns:
            shown = printable(name, 40)
            columns.append({"name": name, "label": shown, "field": name, "sortable": True, "align": "right"})
        pagination = {"page": 1, "rowsPerPage": PER_PAGE[0], "sortBy": None, "descending": False, "rowsNumber": 0}
        table = ui.table(rows=[], columns=columns, row_key="id", pagination=pagination)
        table.props(f"dense flat binary-state-sort :rows-per-page-options='{list(PER_PAGE)}'")
        table.classes("w-full clips").add_slot("body-cell-preview", _PICTURE)
        table.on("request", self._turned, [["pagination"]])
        table.on("rowClick", self._opened, [[], ["id"], None])
        return table

    async def _moved(self, name: str, bound: Bound) -> None:
        self._take(name, bound)
        await self._refresh()

    def _take(self, name: str, bound: Bound) -> None:
        self.bounds.pop(name, None)
        if not bound.idle:
            self.bounds[name] = bound

    async def _set_all(self, bounds: dict[str, Bound]) -> None:
        for name, panel in self.panels.items():
            self._take(name, bounds.get(name, Bound()))
            panel.show(bounds.get(name, Bound()))
        await self._refresh()

    async def _typed(self, event: events.ValueChangeEventArguments) -> None:
        self._text = event.value or ""
        await self._refresh()

    async def _chose(self, event: events.ValueChangeEventArguments) -> None:
        self._side = event.value
        await self._refresh()

    async def _refresh(self) -> None:
        """Count anew and show the first page. Of questions that queue up while one is answered only the last counts."""
        self._asked += 1
        mine = self._asked
        async with self._looking:
            if mine != self._asked:
                return
            self.busy.set_visibility(True)
            try:
                among = await asyncio.to_thread(self._among, self._text, self._side)
                self.view = await asyncio.to_thread(self.data.scores.look, dict(self.bounds), among)
                self._show_counts()
                if mine == self._asked:
                    await self._show_page({**self.table.pagination, "page": 1})
            except CurationError as error:
                _complain(error)
            finally:
                self.busy.set_visibility(mine != self._asked)

    def _among(self, text: str, side: str) -> np.ndarray | None:
        """The clips that text and selection leave, bool (n,); None for all of them."""
        among = None
        if side != "all" and self.data.verdicts.fell is not None:
            among = (self.data.verdicts.fell >= 0) == (side == "fell")
        if text:
            if self._found is None or self._found[0] != text:
                self._found = (text, self.data.clips.search(text))
            among = self._found[1] if among is None else among & self._found[1]
        return among

    def _show_counts(self) -> None:
        scores = self.data.scores
        self.count.text = f"{number(self.view.kept)} of {number(scores.clips)} clips"
        for name, panel in self.panels.items():
            panel.draw(scores.everything.histograms[name], self.view.histograms[name])

    async def _turned(self, event: events.GenericEventArguments) -> None:
        asked = event.args["pagination"]
        async with self._looking:
            try:
                await self._show_page(asked)
            except CurationError as error:
                _complain(error)

    async def _show_page(self, asked: dict[str, Any]) -> None:
        """Read and show one page of clips. What the browser asks for is only taken as far as it makes sense."""
        by = asked.get("sortBy") if asked.get("sortBy") in self.data.scores.columns else None
        descending = bool(asked.get("descending"))
        size = next((n for n in PER_PAGE if n == asked.get("rowsPerPage")), PER_PAGE[0])
        if self._order is None or self._order[:3] != (self.view, by, descending):
            order = await asyncio.to_thread(self.data.scores.ordered, self.view, by, descending=descending)
            self._order = (self.view, by, descending, order)
        order = self._order[3]
        page = min(max(int(asked.get("page") or 1), 1), -(-len(order) // size) or 1)
        numbers = order[(page - 1) * size : page * size]
        rows = await asyncio.to_thread(self.data.clips.line, numbers)
        self.table.rows = [self._cells(int(n), row) for n, row in zip(numbers, rows, strict=True)]
        self.table.pagination = {
            "page": page,
            "rowsPerPage": size,
            "sortBy": by,
            "descending": descending,
            "rowsNumber": len(order),
        }

    def _cells(self, n: int, row: dict[str, Any]) -> dict[str, Any]:
        texts = [row[name] for name in self.data.clips.texts if name != "uri" and row.get(name)]
        return {
            "id": n,
            "preview": f"/preview/{n}",
            "video": printable(PurePosixPath(row["uri"]).name or row["uri"], 40),
            "at": f"{row['start']:.2f}, {row['end']:.2f}",
            "text": printable(texts[0], 160) if texts else "",
            **{name: _cell(float(values[n])) for name, values in self.data.scores.columns.items()},
        }

    async def _opened(self, event: events.GenericEventArguments) -> None:
        n = event.args[1]["id"]
        if not isinstance(n, int) or not 0 <= n < len(self.data.clips):
            return
        try:
            row, why, errors = await asyncio.to_thread(self._known, n)
        except CurationError as error:
            _complain(error)
            return
        self.dialog.clear()
        with self.dialog, ui.card().classes("w-full clip"):
            detail.show(self.data.clips, row, why, errors)
        self.dialog.open()

    def _known(self, n: int) -> tuple[dict[str, Any], dict[str, list[str]], list[dict[str, Any]]]:
        """Everything about one clip: its row, why it falls by whom, what went wrong."""
        clips, verdicts = self.data.clips, self.data.verdicts
        (row,) = clips.rows([n])
        why = {verdicts.name: verdicts.reasons(n, row)}
        if self.bounds:
            why["sliders"] = reasons(self.bounds, row)
        return row, why, clips.errors(row)

    def _export(self) -> None:
        """Show the policy and offer it as a file."""
        text = to_yaml(to_policy(self.bounds))
        self.dialog.clear()
        with self.dialog, ui.card().classes("policy"):
            ui.label(f"This policy keeps {number(self.view.by_scores)} clips").classes("text-lg")
            if self._text or self._side != "all":
                ui.label("A policy knows no text and no selection: both are left out of it.").classes("text-orange-800")
            ui.label("Clips that repeat others stay; write `drop_duplicates: true` to keep one of each.")
            ui.label(text).classes("font-mono whitespace-pre bg-gray-100 p-2 w-full").props("id=policy")
            ui.button("Download", on_click=_downloading(text)).props("no-caps id=download")
            ui.label("rushes select MANIFEST --policy policy.yaml --out SELECTION").classes("font-mono text-sm")
        self.dialog.open()


_CAPTION = "white-space: normal; min-width: 18em; max-width: 30em"


def _downloading(text: str) -> Callable[[], None]:
    return lambda: ui.download.content(text, "policy.yaml", "application/yaml")


def _complain(error: CurationError) -> None:
    ui.notify(printable(error, 400), type="negative", timeout=0, close_button=True)


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"
