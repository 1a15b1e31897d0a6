"""Find the videos of a run in a folder, in a list or at one path, and count the files that are skipped."""

import codecs
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from curation import sources, store
from curation.errors import CurationError, in_words
from curation.sources import Source

SUFFIXES = frozenset(
    """.264 .265 .360 .3g2 .3gp .amv .apng .asf .av1 .avc .avi .divx .dv .dvr-ms .evo .f4v .flv .gif .h264 .h265 .hevc
    .insv .ismv .ivf .m1v .m2p .m2t .m2ts .m2v .m4v .mj2 .mk3d .mkv .mod .mov .mp2v .mp4 .mp4v .mpe .mpeg .mpegts .mpg
    .mpv .mpv2 .mts .mxf .nut .obu .ogm .ogv .ogx .qt .rm .rmvb .tod .tp .trp .ts .vob .webm .wmv
    .wtv .xvid .y4m""".split()
)
"""Suffixes of the files that a folder search finds. A file given by its path or in a list may have any suffix."""

_PARTIAL = frozenset(
    """.!bt .!qb .!ut .aria2 .bc! .crdownload .download .dtapart .filepart .incomplete .jc! .ob! .opdownload .part
    .partial .temp .tmp .unfinished .xltd .ytdl""".split()
)
_SYSTEM = frozenset({".ds_store", ".directory", ".localized", "desktop.ini", "ehthumbs.db", "thumbs.db"})
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16, so it must be tested first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EXAMPLES = 3


class Skipped:
    """Files that a search skipped: counts, details and examples by reason."""

    def __init__(self) -> None:
        self._details: dict[str, Counter[str]] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, reason: str, path: str, detail: str = "") -> None:
        """Count one path. Details, such as suffixes, are counted within their reason."""
        self._details.setdefault(reason, Counter())[detail] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(path)

    @property
    def counts(self) -> dict[str, int]:
        """Number of paths by reason."""
        return {reason: details.total() for reason, details in self._details.items()}

    def messages(self) -> list[str]:
        """Return one line per reason."""
        return [f"skipped {many}: {reason}{self._told(reason)}" for reason, many in self.counts.items()]

    def _told(self, reason: str) -> str:
        most = [f"{detail} {many}" for detail, many in self._details[reason].most_common(12) if detail]
        more = len(self._details[reason]) - len(most)
        details = f" ({', '.join(most)}{f', and {more} more' if more and most else ''})" if most else ""
        return f"{details}; for example {', '.join(map(repr, self._examples[reason]))}"


def find(videos: str, skipped: Skipped | None = None) -> list[Source]:
    """Return the videos in a folder (searched recursively), the videos in a list (.txt), or the file at a path.

    `videos` is a path on disk or the URL of an object store. The result for a folder is sorted by path, and `skipped`
    counts the other files in it. Raises CurationError if there is no video; the message lists the suffixes that were
    searched for and the files that were skipped.
    """
    videos, skipped = store.without_file_protocol(videos), skipped or Skipped()
    if "://" in videos:
        return _find_on_store(videos, skipped)
    root = Path(videos).expanduser()
    if not root.exists():
        raise CurationError(f"videos: {videos!r} does not exist; give a folder, a video file or a .txt list of paths")
    if root.is_dir():
        found = sorted(_walk(root, skipped), key=lambda source: Path(source.uri))
        if not found:
            raise CurationError(_none_in(videos, skipped))
        return found
    if root.suffix.lower() == ".txt":
        try:
            return _listed(videos, root.read_bytes(), root.parent)
        except OSError as error:
            raise CurationError(f"videos: {videos!r} cannot be read: {error.strerror or error}") from error
    if not root.is_file():
        raise CurationError(f"videos: {videos!r} is not a regular file; give a folder, a video or a .txt list of paths")
    return [sources.at(root)]


def _find_on_store(videos: str, skipped: Skipped) -> list[Source]:
    """Return the videos below a URL, the videos in the list at a URL, or the object at a URL."""
    root = store.place(videos)
    if PurePosixPath(videos).suffix.lower() == ".txt":
        try:
            content = root.read_bytes()
        except OSError as error:
            raise CurationError(f"videos: {videos!r} cannot be read: {in_words(error)}") from error
        return _listed(videos, content, root.parent)

    def unreadable(error: OSError) -> None:
        skipped.add("folder that cannot be read", str(error.filename or error), error.strerror or type(error).__name__)

    try:
        found = [Source(*entry) for entry in store.below(root, unreadable)]
    except OSError as error:
        raise CurationError(f"videos: {videos!r} cannot be listed: {in_words(error)}") from error
    if len(found) == 1 and store.is_object(root, found[0].uri):
        return found
    names = {source.uri for source in found}
    found = [source for source in found if _is_wanted(source.uri, names, skipped)]
    if not found:
        raise CurationError(_none_in(videos, skipped))
    return found


def _walk(root: Path, skipped: Skipped) -> Iterator[Source]:
    """Yield the videos below `root`. Symbolic links are followed, and each folder is searched once."""

    def unreadable(error: OSError) -> None:
        skipped.add("folder that cannot be read", str(error.filename), error.strerror or "")

    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        try:
            status = Path(folder).stat()
        except OSError as error:
            unreadable(error)
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:
            skipped.add("folder that was already searched", folder)
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        paths = {os.path.join(folder, name) for name in names}  # noqa: PTH118 - many
        for path in paths:
            if _is_wanted(path, paths, skipped) and (source := _regular(path, skipped)):
                yield source


def _is_wanted(path: str, beside: set[str], skipped: Skipped) -> bool:
    """Whether the name of a file in a folder is that of a video. Otherwise the file is counted in `skipped`."""
    folder, _, name = path.rpartition("/")
    suffix = PurePosixPath(name).suffix.lower()
    if name.startswith("._") or name.lower() in _SYSTEM or folder.rpartition("/")[2] == "__MACOSX":
        skipped.add("metadata of the operating system", path)
    elif suffix in _PARTIAL or folder.endswith(".download") or f"{path}.aria2" in beside:
        skipped.add("partial download or temporary file", path)
    elif suffix not in SUFFIXES:
        skipped.add("suffix that is not a video's", path, suffix or "none")
    else:
        return True
    return False


def _regular(path: str, skipped: Skipped) -> Source | None:
    """Return the state of the file at a path; None for a pipe, a device or a broken link."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - Path.resolve would replace a link by its target
    try:
        status = os.stat(absolute)  # noqa: PTH116
    except OSError as error:
        if Path(absolute).is_symlink():
            skipped.add("broken link", absolute, error.strerror or "")
            return None
        return sources.at(absolute)  # the decode reports why the file cannot be read
    if stat.S_ISREG(status.st_mode):
        return sources.of_status(absolute, status)
    skipped.add("not a regular file", absolute)
    return None


def _listed(videos: str, content: bytes, folder: Path) -> list[Source]:
    """Return the videos in a list: one URL or path per line. Paths may be relative to the list's folder."""
    lines = [line for line in re.split(r"\r\n|\r|\n", _text(videos, content)) if line.strip()]
    found = {s.uri: s for s in (_named(line, folder) for line in lines if not line.lstrip().startswith("#"))}
    if not found:
        raise CurationError(f"videos: the list {videos!r} names no video; write one path or URL per line")
    if missing := [source.uri for source in found.values() if source.size < 0]:
        raise CurationError(
            f"videos: the list {videos!r} names {missing[0]}, which does not exist or cannot be reached "
            f"({len(missing)} missing in all){_advice(missing[0])}"
        )
    return list(found.values())


def _text(videos: str, content: bytes) -> str:
    """Decode a list: UTF-8, or UTF-16 or UTF-32 as Windows writes them.

    Bytes that are not valid UTF-8 are kept with surrogateescape, as in file names.
    """
    encoding = next((encoding for bom, encoding in _BOMS if content.startswith(bom)), "utf-8")
    if encoding == "utf-8" and b"\0" in content:
        encoding = "utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be"
    try:
        text = content.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "strict")
    except UnicodeError:
        text = "\0"
    if "\0" in text:
        raise CurationError(f"videos: {videos!r} is not a text file; write the list as UTF-8, one path per line")
    return text


def _named(line: str, folder: Path) -> Source:
    """Return the state of the file that a line names.

    The line is tried without surrounding spaces, as written, without quotation marks, and with backslashes as
    separators. The first file that exists is returned; if none does, the line without surrounding spaces.
    """
    bare = line.strip()
    unquoted = bare[1:-1] if len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "\"'" else bare
    spellings = [unquoted] if "://" in unquoted else [bare, line, unquoted, unquoted.replace("\\", "/")]
    states = (sources.at(text if "://" in text else str(folder / text)) for text in dict.fromkeys(spellings))
    first = next(states)
    return first if first.size >= 0 else next((state for state in states if state.size >= 0), first)


def _advice(path: str) -> str:
    if re.search(r"(^|/)[A-Za-z]:[\\/]|\\\\", path):
        return "; this is a Windows path: write the path on this system, or one relative to the list"
    if not path.isprintable() and any("\udc80" <= c <= "\udcff" for c in path):
        return "; the list is not UTF-8: save it as UTF-8"
    return ""


def _none_in(videos: str, skipped: Skipped) -> str:
    passed = "".join(f"; {message}" for message in skipped.messages())
    return f"videos: no video in {videos!r} (looked for {' '.join(sorted(SUFFIXES))}){passed}"
