"""Progress in words."""

import pytest

from curation.progress import in_words, silent


@pytest.mark.parametrize(
    ("done", "total", "line"),
    [
        (0, None, "reading"),
        (3, None, "reading: 3"),
        (0, 6, "reading: 0/6"),
        (6, 6, "reading: 6/6"),
        (0, 0, "reading: 0/0"),
    ],
)
def test_what_cannot_be_counted_is_only_named(done, total, line):
    assert in_words("reading", done, total) == line


def test_nobody_is_told(capsys):
    silent("reading", 1, 2)
    assert capsys.readouterr() == ("", "")
