"""What is known of one clip: its footage, why it falls, its captions, its scores and how they were measured."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from nicegui import ui

from curation.browse.clips import Clips
from curation.inspect import note, printable
from curation.pictures import number
from curation.schema import definition_of

Why = Mapping[str, list[str]]


def show(clips: Clips, row: dict[str, Any], why: Why, errors: list[dict[str, Any]]) -> None:
    """Fill the current container. `why` has the reasons that a clip falls for, by who says so."""
    start, end = row["start"], row["end"]
    with ui.row().classes("w-full items-baseline"):
        ui.label(printable(PurePosixPath(row["uri"]).name or row["uri"], 90)).classes("text-lg font-medium break-all")
        ui.label(f"{start:.3f} s to {end:.3f} s").classes("text-gray-600")
    with ui.row().classes("w-full no-wrap items-start gap-4"):
        with ui.column().classes("w-1/2"):
            _player(row["video_id"], start, end)
            for name, faults in why.items():
                _verdict(name, faults)
            for kind, size, first in clips.repeats(row):
                _paragraph(f"{kind} duplicates", f"one of {size} clips, and {'' if first else 'not '}the best of them")
            for name in clips.texts:
                if name != "uri" and row.get(name):
                    _paragraph(name, row[name])
            for error in errors:
                where = "this clip" if error["clip_id"] else "the video"
                _paragraph(f"{error['step']} failed on {where}: {error['error']}", error["message"] or "")
            _paragraph("source", row["uri"])
            _paragraph("clip", row["clip_id"])
        with ui.column().classes("w-1/2"):
            _measured(clips.schema, row)


def _player(video_id: str, start: float, end: float) -> None:
    """The clip's part of its source, by the browser's own player."""
    source = f"/video/{quote(video_id, safe='')}#t={start:.3f},{end:.3f}"
    player = ui.video(source, autoplay=True, muted=True).classes("w-full bg-black").style("max-height:50vh")
    fault = ui.label("The file is gone, has changed, or is in a format that this browser does not play.")
    fault.classes("text-orange-800").set_visibility(False)
    player.on("error", lambda: fault.set_visibility(True))

    def again() -> None:
        player.seek(start)
        player.play()

    ui.button("Again", icon="replay", on_click=again).props("flat dense")


def _verdict(name: str, faults: list[str]) -> None:
    with ui.column().classes("gap-0 verdict"):
        ui.label(f"By the {printable(name, 80)} it {'falls' if faults else 'stays'}").classes("font-medium")
        for fault in faults:
            ui.label(printable(fault, 200)).classes("text-orange-800")


def _paragraph(title: str, text: str) -> None:
    with ui.column().classes("gap-0 w-full"):
        ui.label(printable(title, 200)).classes("text-xs text-gray-500")
        ui.label(printable(text, 2000)).style("overflow-wrap: anywhere")


def _measured(schema: pa.Schema, row: dict[str, Any]) -> None:
    rows = []
    for field in schema:
        definition, nested = definition_of(field), pa.types.is_nested(field.type) or pa.types.is_binary(field.type)
        if definition is None or nested or pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            continue
        value = row[field.name]
        shown = "not measured" if value is None else number(value) if isinstance(value, float) else str(value)
        how = ", ".join(f"{k} = {v}" for k, v in definition.items())
        rows.append(
            {
                "id": printable(field.name),
                "value": printable(f"{shown} {note(field, 'unit')}", 60),
                "about": printable(f"{note(field, 'description')} ({how})", 600),
            }
        )
    columns = [
        {"name": n, "label": label, "field": n, "align": "left", "style": style}
        for n, label, style in (
            ("id", "score", "vertical-align: top"),
            ("value", "value", "vertical-align: top; min-width: 7em; white-space: normal"),
            ("about", "what it says (and how it was measured)", "white-space: normal; overflow-wrap: anywhere"),
        )
    ]
    ui.table(rows=rows, columns=columns, row_key="id").props("dense flat wrap-cells").classes("w-full measured")
