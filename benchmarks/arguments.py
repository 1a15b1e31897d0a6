"""What the benchmarks' command lines share. A path that is at fault ends in one line and status 2 before any work."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

FOOTAGE = str(Path(__file__).parents[2] / "shared" / "videos")  # a text: argparse looks at it as at one that is given
_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm"}


def parser_of(about: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a script's docstring, as it stands."""
    return argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)


def labelled_footage(parser: argparse.ArgumentParser) -> None:
    """Add --videos and --truth; `truth_of` reads the latter."""
    parser.add_argument("--videos", type=known_folder, default=FOOTAGE, metavar="DIR", help="default: ../shared/videos")
    parser.add_argument("--truth", type=known_file, metavar="FILE", help="default: truth.json beside the videos")


def truth_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The labels by file name of sound files; ends the script where they or the videos are not there."""
    path = args.truth or args.videos / "truth.json"
    try:
        labels = {k: v for k, v in json.loads(path.read_text()).items() if not k.startswith("odd/")}
    except (OSError, ValueError, AttributeError) as error:
        parser.error(f"argument --truth: {path} holds no labels: {error}")
    if absent := [name for name in labels if not (args.videos / name).is_file()]:
        parser.error(f"argument --videos: {args.videos} lacks {', '.join(absent[:3])}")
    return labels


def videos_in(parser: argparse.ArgumentParser, where: Path) -> list[Path]:
    """The videos of a folder, sorted, by their suffix; ends the script where there is none."""
    found = sorted(p for p in where.iterdir() if p.suffix.lower() in _SUFFIXES)
    if not found:
        parser.error(f"no video in {where}")
    return found


def known_folder(text: str) -> Path:
    """A folder that is there, as an argument's type."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path


def known_file(text: str) -> Path:
    """A file that is there and can be read, as an argument's type."""
    path = Path(text).expanduser()
    if not path.is_file() or not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text} is no file that can be read")
    return path


def new_file(text: str) -> Path:
    """A file that can be written, as an argument's type; it may be there already."""
    path = Path(text).expanduser()
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def at_least_one(text: str) -> int:
    """A whole number above 0, as an argument's type."""
    number = int(text)  # argparse tells of a ValueError by itself
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number
