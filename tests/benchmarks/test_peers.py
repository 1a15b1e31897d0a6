"""The benchmark beside a peer: how it asks a process that answers, fails, ends and hangs."""

import sys
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.footage.small import footage
from curation import plan

PEER = """
import json, os, sys, time
print("a library's chatter")
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    path = json.loads(line)
    if "ends" in path:
        os._exit(7)
    if "hangs" in path:
        time.sleep(600)
    print("more chatter")
    print(json.dumps(["kept", 2, path]), flush=True)
"""


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """A process that behaves as its files are named; the script is formatted as the real one is."""
    monkeypatch.setattr(peers, "PEER", PEER)
    made = peers.Peer(Path(sys.executable), tmp_path, 4.0)
    yield made
    made.end()


def test_answers_belong_to_their_files_whatever_happens_between(peer):
    for name in ("first\nline.mp4", "it ends.mp4", "second.mp4", "it hangs.mp4", "third.mp4"):
        said, clips, note = peer.read(Path("/films") / name)
        if "ends" in name:
            assert (said, clips, note) == ("lost", 0, "its process ended with 7")
        elif "hangs" in name:
            assert (said, clips) == ("hung", 0)
        else:
            assert (said, clips, note) == ("kept", 2, f"/films/{name}")
    assert peer.seconds > 4.0  # what it hung for counts


def test_an_environment_without_it_is_said_with_the_way_to_make_one(monkeypatch):
    monkeypatch.setattr(peers, "PEER", "raise SystemExit(1)")
    with pytest.raises(SystemExit, match="pip install py-data-juicer"):
        peers.Peer(Path(sys.executable), Path(), 1.0).read(Path("a.mp4"))


def test_ours_tells_of_each_file(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "scorers_for", plan.scorers_for)  # put back afterwards
    (tmp_path / "sound.mp4").write_bytes(footage(1))
    (tmp_path / "half.mp4").write_bytes(b"no film")
    outcomes, _ = peers.ours(tmp_path)
    assert outcomes["sound.mp4"] == ("kept", 2, "")
    assert outcomes["half.mp4"][:2] == ("error row", 0)
    assert "not a video" in outcomes["half.mp4"][2]
