"""The table of formats: what each file is, and what every reader must say of it.

One row is one file. `docs/formats.md` is made of these rows, and the tests beside this file check them.
"""

from tests.formats.rows import (
    access,
    codecs,
    color,
    damaged_stamps,
    faults,
    geometry,
    interlaced,
    rates,
    streams,
    time_stamps,
)

ROWS = [
    row
    for part in (
        codecs,
        access,
        time_stamps,
        damaged_stamps,
        rates,
        geometry,
        color,
        interlaced,
        streams,
        faults,
    )
    for row in part.ROWS
]
