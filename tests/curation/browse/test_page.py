"""A user's way through the inspector in a real browser. With RUSHES_SCREENSHOTS=DIR the pages are photographed."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, expect, sync_playwright

from curation.config import SelectConfig
from curation.policy import select
from tests.browser import QUIET

pytestmark = [pytest.mark.needs_chromium, pytest.mark.timeout(300)]

MOTION = [4.0, 1.0, 2.5, 3.0]  # of those that were measured


@pytest.fixture(scope="module")
def base(lasting, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`rushes inspect DIR --serve` with a selection, on a free port, ended by Ctrl-C."""
    folder = tmp_path_factory.mktemp("serving")
    policy = folder / "p.yaml"
    policy.write_text("name: moving\ndrop_duplicates: false\nrules: [{score: motion, min: 2.0}]")
    select(SelectConfig(manifest=str(lasting.folder), policy=str(policy), out=str(folder / "selection")))
    command = [sys.executable, "-m", "flows.cli", "inspect", str(lasting.folder), "--serve", "--port", "0"]
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [*command, "--selection", str(folder / "selection")], stdout=subprocess.PIPE, stderr=errors, cwd=folder
        )
    try:
        assert process.stdout
        line = process.stdout.readline().decode()
        assert line.startswith("http://127.0.0.1:"), (folder / "errors").read_text()
        yield line.split()[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        said = (folder / "errors").read_text()
        assert "Traceback" not in said, said
        assert not (folder / ".nicegui").exists()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def page(base: str) -> Iterator[Page]:
    outside: list[str] = []
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.set_default_timeout(30_000)
        ours = (base, base.replace("http", "ws", 1), "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(ours) else outside.append(r.url))
        page.on("dialog", lambda dialog: outside.append(f"a script ran: {dialog.message}"))
        page.on("pageerror", lambda error: outside.append(str(error)))
        page.goto(base)
        expect(page.locator("#count")).to_have_text("6 of 6 clips")
        yield page
        browser.close()
    assert outside == []


def photograph(page: Page, name: str) -> None:
    if folder := os.environ.get("RUSHES_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"inspector-{name}.png")


def test_a_slider_moves_the_count_and_the_policy_keeps_as_many(page: Page, lasting, tmp_path: Path) -> None:
    track = page.locator("[data-score=motion] .q-slider__track-container").bounding_box()
    assert track
    across = track["y"] + track["height"] / 2
    page.mouse.move(track["x"] + 1, across)
    page.mouse.down()
    page.mouse.move(track["x"] + 0.2 * track["width"], across, steps=10)
    expect(page.locator("#count")).to_have_text("3 of 6 clips")  # while the button is still down
    page.mouse.move(track["x"] + 0.8 * track["width"], across, steps=10)
    expect(page.locator("#count")).to_have_text("1 of 6 clips")
    page.mouse.move(track["x"] + 0.4 * track["width"], across, steps=10)
    page.mouse.up()
    expect(page.locator("#count")).to_have_text("3 of 6 clips")
    low = float(page.locator("[data-score=motion] input[type=number]").first.input_value())
    assert sum(m >= low for m in MOTION) == 3
    expect(page.locator(".clips tbody tr")).to_have_count(3)
    photograph(page, "filtered")

    page.locator("#export").click()
    expect(page.locator(".policy")).to_contain_text("keeps 3 clips")
    photograph(page, "policy")
    with page.expect_download() as download:
        page.locator("#download").click()
    file = tmp_path / "policy.yaml"
    download.value.save_as(file)
    assert file.read_text() == page.locator("#policy").text_content()
    assert yaml.safe_load(file.read_text())["rules"] == [{"score": "motion", "min": low}]
    done = select(SelectConfig(manifest=str(lasting.folder), policy=str(file), out=str(tmp_path / "s")))
    assert done.kept == 3


def test_numbers_typed_and_clips_not_measured(page: Page) -> None:
    box = page.locator("[data-score=motion]")
    box.locator("input[type=number]").nth(1).fill("2.5")
    expect(page.locator("#count")).to_have_text("2 of 6 clips")
    box.get_by_text("2 not measured").click()
    expect(page.locator("#count")).to_have_text("4 of 6 clips")
    page.get_by_role("button", name="All clips").click()
    expect(page.locator("#count")).to_have_text("6 of 6 clips")
    page.get_by_role("button", name="As in selection by moving").click()
    expect(page.locator("#count")).to_have_text("3 of 6 clips")


def test_sorting_searching_and_what_a_selection_dropped(page: Page) -> None:
    rows = page.locator(".clips tbody tr")
    page.locator(".clips th", has_text="motion").click()
    expect(rows.first).to_contain_text("a Street")
    expect(rows.first.locator("td").nth(4)).to_have_text("1")
    page.locator(".clips th", has_text="motion").click()
    expect(rows.first.locator("td").nth(4)).to_have_text("4")
    page.get_by_label("in captions and paths").fill("ONERROR")
    expect(page.locator("#count")).to_have_text("2 of 6 clips")
    page.get_by_label("in captions and paths").fill("")
    expect(page.locator("#count")).to_have_text("6 of 6 clips")
    page.get_by_role("button", name="fell").click()
    expect(page.locator("#count")).to_have_text("3 of 6 clips")


def test_a_clip_plays_from_its_start_and_says_why_it_fell(page: Page, lasting) -> None:
    page.locator(".clips tbody tr").nth(1).click()
    video = page.locator("video")
    video.wait_for()
    page.wait_for_function("document.querySelector('video').currentTime > 0.6")
    start = video.evaluate("v => v.currentTime")
    page.wait_for_function(f"document.querySelector('video').currentTime > {start + 0.2}")
    page.wait_for_function("document.querySelector('video').paused")
    assert 0.5 < video.evaluate("v => v.currentTime") < 1.8  # the clip is [0.5, 1.5)
    assert video.evaluate("v => v.videoWidth") == 160
    expect(page.locator(".clip .verdict")).to_contain_text("By the selection by moving it falls")
    expect(page.locator(".clip .verdict")).to_contain_text("motion below 2")
    expect(page.locator(".clip .measured")).to_contain_text("mean <flow> (scorer = motion, version = 1)")
    expect(page.locator(".clip")).to_contain_text(str(lasting.plain))
    photograph(page, "clip")


def test_names_and_captions_are_harmless(page: Page) -> None:
    page.locator(".clips tbody tr").nth(5).click()
    clip = page.locator(".clip")
    expect(clip).to_contain_text("<script>alert(1)</script> {{ 7*7 }} </textarea><b>bold</b>")
    expect(clip).to_contain_text("\"'><img src=x onerror=alert(1)>\\n\\u202egnp.🎬")
    expect(page.locator(".clips")).to_contain_text("<script>alert(1)</script> {{ 7*7 }}")
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("b").count() == 0
    page.wait_for_function("document.querySelector('video').currentTime > 0.1")  # it plays, whatever its name
    photograph(page, "hostile")


def test_a_stranger_is_refused(base: str) -> None:
    for header, value in (("Host", "evil.example"), ("Origin", "http://evil.example")):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(base, headers={header: value}), timeout=10)
        assert error.value.code == 403
    with urllib.request.urlopen(base, timeout=10) as reply:
        assert "default-src 'self'" in reply.headers["content-security-policy"]
