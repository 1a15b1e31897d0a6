"""Clips per second of the svd profile's networks on a card: through our scorers, and bare, in one run.

    python benchmarks/scorers_gpu.py [--only clip coca ...] [--clips 512] [--repeat 3]

"ours" starts at decoded frames in host memory (640x360, RGB) and ends at rows of scores; "bare" is the same network in
the same precision, fed with tensors that lie on the card already. The networks have their published sizes and random
weights: with these a caption never ends before its longest length, so captioners are at their slowest. "error" is what
half precision changes against fp32 with the same weights. Prints the best of `--repeat` runs of each.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import torch
import transformers as hf
from torch import nn
from torchvision.models.optical_flow import raft_large

from benchmarks.arguments import at_least_one, parser_of
from curation.config import MotionSettings, WeightSettings
from curation.scores import language_models
from curation.scores.accelerator import Halving, half
from curation.scores.base import ClipFrames, Scorer
from curation.scores.clip import ClipScores
from curation.scores.coca import BEAMS, MAX_LENGTH, MIN_LENGTH, CocaCaption
from curation.scores.craft import Craft
from curation.scores.motion import Motion
from curation.scores.openclip import OpenClip, PictureCaptioner, aesthetic_head
from curation.scores.raft import UPDATES, Raft
from curation.scores.video_captioner import BEAMS as VIDEO_BEAMS
from curation.scores.video_captioner import MAX_NEW_TOKENS, VideoCaption

CARD = torch.device("cuda")
HEIGHT, WIDTH = 360, 640
PAIRS = 8  # of a clip of four seconds at 2 fps
CLIP_SIZE = {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14}
RANDOM = {"require_pretrained": False}
OPT: dict[str, Any] = {
    "vocab_size": 50272, "hidden_size": 2560, "word_embed_proj_dim": 2560, "num_hidden_layers": 32, "ffn_dim": 10240,
    "num_attention_heads": 32, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1,
}  # fmt: skip
EYES: dict[str, Any] = {}  # BLIP-2's vision tower, ViT-g, is what transformers takes for granted
TEXT_SIZE = {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12}


@dataclass(frozen=True, slots=True)
class Row:
    """One network: how to run `batch` clips in both ways, and what half precision changes."""

    name: str
    batch: int
    ours: Callable[[], object]
    bare: Callable[[], object]
    error: Callable[[], str]


def clips_of(count: int) -> list[ClipFrames]:
    """Clips of random pictures: first, middle and last frame, and eight frames spread over each."""
    noise = np.random.default_rng(0)
    coarse = torch.from_numpy(noise.random((count * 8, 3, 9, 16), np.float32)) * 255
    pictures = nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 255).to(torch.uint8)
    frames = pictures.permute(0, 2, 3, 1).contiguous().numpy()
    empty = np.zeros((0, 0, 0, 2), np.float16)
    return [
        ClipFrames(
            clip_id=str(i), video_id="v", uri="v.mp4", start=0.0, end=4.0, fps=25.0, width=WIDTH, height=HEIGHT,
            frames=tuple(frames[8 * i + k].copy() for k in (0, 4, 7)), frame_times=(0.0, 2.0, 3.9), flow=empty,
            flow_size=(WIDTH, HEIGHT), hashes=np.zeros(0, np.uint64),
            uniform=tuple(frames[8 * i + k].copy() for k in range(8)),
        )
        for i in range(count)
    ]  # fmt: skip


@torch.no_grad()
def randomise(net: nn.Module, seed: int = 0) -> Any:
    """Fill the matrices of a network on the card with numbers that keep activations alive, whatever its precision."""
    generator = torch.Generator(CARD).manual_seed(seed)
    for matrix in (p for p in net.parameters() if p.ndim > 1):
        spread = matrix[0].numel() ** -0.5
        matrix.copy_(torch.randn(matrix.shape, generator=generator, device=CARD) * spread)
    return net


@contextmanager
def open_clip_folder(config: dict[str, Any]):
    """A folder that open_clip takes for a published model; its weights are random."""
    import json

    hub: Any = open_clip
    published = hub.create_model

    def made(name: str, **options: Any) -> Any:
        torch.manual_seed(0)
        return randomise(published(name, **options | RANDOM))

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        hub.create_model = made
        try:
            yield Path(folder)
        finally:
            hub.create_model = published


def clip_row(clips: Sequence[ClipFrames]) -> Row:
    """ViT-L/14 with LAION's head: embedding and aesthetic score of three frames."""
    scorer = ClipScores(WeightSettings())
    config = {"embed_dim": 768, "vision_cfg": CLIP_SIZE, "text_cfg": TEXT_SIZE}
    with open_clip_folder(config) as folder, tempfile.TemporaryDirectory() as heads:
        head = Path(heads) / "head.pth"
        torch.manual_seed(0)
        torch.save(nn.Linear(768, 1).state_dict(), head)
        scorer._clip, exact = OpenClip(folder), OpenClip(folder, on_card="fp32")
        scorer._head = aesthetic_head(head, 768).to(CARD)
    batch = clips[: scorer.batch_size]
    net = scorer._clip.net
    pixels = scorer._clip.pixels([f for clip in batch for f in clip.frames])

    @torch.inference_mode()
    def bare() -> torch.Tensor:
        return net.encode_image(pixels)

    def error() -> str:
        half = scorer.score(batch, [{}] * len(batch))
        full_scorer = ClipScores(WeightSettings())
        full_scorer._clip, full_scorer._head = exact, scorer._head
        full = full_scorer.score(batch, [{}] * len(batch))
        a, b = (np.stack([np.asarray(r["embedding"], np.float32) for r in rows]) for rows in (half, full))
        beauty = max(abs(x["aesthetic"] - y["aesthetic"]) for x, y in zip(half, full, strict=True))
        return f"cosine of two clips {np.abs(a @ a.T - b @ b.T).max():.1e}, aesthetic {beauty:.1e}"

    return Row("CLIP ViT-L/14, 3 frames", len(batch), score_all(scorer, batch), bare, error)


def craft_row(clips: Sequence[ClipFrames]) -> Row:
    """EasyOCR's CRAFT on three frames as they are, to heat maps in host memory: boxes are a matter of the CPU."""
    from easyocr.craft import CRAFT

    torch.manual_seed(0)
    net = randomise(CRAFT(pretrained=False).to(CARD).eval())
    craft = Craft(net, CARD)
    batch = clips[:32]
    frames = [frame for clip in batch for frame in clip.frames]
    halving = Halving(24)

    def ours() -> np.ndarray:
        return torch.stack(halving(lambda some: craft.on_card(some).unbind(), frames)).cpu().numpy()

    pixels = torch.from_numpy(np.stack(frames)).to(CARD).permute(0, 3, 1, 2).float().div_(64).sub_(2)

    @torch.inference_mode()
    def bare() -> list[torch.Tensor]:
        with torch.autocast(CARD.type, half(CARD)):
            return [net(part)[0] for part in pixels.split(24)]

    @torch.inference_mode()
    def error() -> str:
        exact = net(pixels[:24])[0]
        with torch.autocast(CARD.type, half(CARD)):
            difference = (net(pixels[:24])[0].float() - exact).abs() / exact.std()
        return f"heat {float(difference.mean()):.1e} mean, {float(difference.max()):.1e} largest, in its own deviations"

    return Row("CRAFT heat maps, 3 frames", len(batch), ours, bare, error)


def raft_row(clips: Sequence[ClipFrames]) -> Row:
    """torchvision's raft_large through the motion scorer, camera fit and all: eight pairs of 256x144 a clip.

    Bare is torchvision's forward, which encodes a picture anew in each pair and enlarges each of twelve flows. The
    scorer does neither, so it may be the faster one; what its own forward does alone on the card is said at the end.
    """
    scorer = Motion(MotionSettings(method="raft"))
    torch.manual_seed(0)
    net = randomise(raft_large().to(CARD).eval())
    with tempfile.TemporaryDirectory() as folder:
        torch.save(net.cpu().state_dict(), Path(folder) / "raft.pth")
        scorer._raft = raft = Raft(Path(folder) / "raft.pth")
    batch = [filmed(clip, seed) for seed, clip in enumerate(clips[: scorer.batch_size])]
    pictures = [raft._pixels(clip.samples) for clip in batch]
    resident = [torch.cat(pictures[i : i + PAIRS]) for i in range(0, len(batch), PAIRS)]  # 64 pairs a time
    index = torch.arange(PAIRS * (PAIRS + 1), device=CARD).view(PAIRS, PAIRS + 1)
    first, second = index[:, :-1].flatten(), index[:, 1:].flatten()
    paired = [(pixels[first], pixels[second]) for pixels in resident]

    @torch.inference_mode()
    def bare() -> list[torch.Tensor]:
        return [raft.net(a, b, num_flow_updates=UPDATES)[-1] for a, b in paired]

    @torch.inference_mode()
    def own() -> list[torch.Tensor]:
        return [raft.flow(pixels, first, second) for pixels in resident]

    def error() -> str:
        own()
        alone = len(batch) / min(seconds(own, 1) for _ in range(3))
        apart = max(float((a - b).abs().max()) for a, b in zip(own(), bare(), strict=True))
        tf32 = scorer.score(batch, [{}] * len(batch))
        with torch.backends.cudnn.flags(allow_tf32=False):
            exact = scorer.score(batch, [{}] * len(batch))
        off = max(abs(a["motion"] / b["motion"] - 1) for a, b in zip(tf32, exact, strict=True))
        return f"motion {off:.1e} by TF32; own forward alone {alone:.1f} clips/s, its flow {apart:.1e} px from bare's"

    return Row("RAFT large, 8 pairs", len(batch), score_all(scorer, batch), bare, error)


def filmed(clip: ClipFrames, seed: int) -> ClipFrames:
    """The clip with grey samples of its own."""
    noise = np.random.default_rng(seed).random((PAIRS + 1, 9, 16), np.float32) * 255
    grey = tuple(cv2.resize(p, (256, 144), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8) for p in noise)
    return replace(clip, samples=grey, sample_times=tuple(i / 2 for i in range(PAIRS + 1)), flow_size=(256, 144))


def coca_row(clips: Sequence[ClipFrames]) -> Row:
    """CoCa ViT-L/14 with a beam search of 30 tokens on the middle frame."""
    scorer = CocaCaption(WeightSettings())
    vision = CLIP_SIZE | {"attentional_pool": True, "attn_pooler_heads": 8, "output_tokens": True}
    text = TEXT_SIZE | {"context_length": 76, "embed_cls": True, "output_tokens": True}
    decoder = TEXT_SIZE | {"context_length": 76, "attn_pooler_heads": 12}
    config = {"embed_dim": 768, "vision_cfg": vision, "text_cfg": text, "multimodal_cfg": decoder, "custom_text": True}
    with open_clip_folder(config) as folder:
        scorer._captioner, exact = PictureCaptioner(folder), PictureCaptioner(folder)
        exact.model = OpenClip(folder, on_card="fp32")
    captioner = scorer._captioner
    batch = clips[: scorer.batch_size]
    frames = [clip.frames[1] for clip in batch]
    pixels = captioner.model.pixels(frames)

    def search(which: PictureCaptioner, seen: torch.Tensor) -> list[list[int]]:
        return which.search(seen, BEAMS, MIN_LENGTH, MAX_LENGTH)

    @torch.inference_mode()
    def error() -> str:
        seen = exact.model.pixels(frames)
        found = [search(captioner, pixels), search(exact, seen)]
        scores = [likelihood(exact, seen, captions) for captions in found]
        same = np.mean([a == b for a, b in zip(*found, strict=True)])
        lost = float((scores[1] - scores[0]).mean())
        return f"{same:.0%} of captions equal, log-probability a token {lost:+.1e} below fp32's"

    return Row("CoCa ViT-L/14, 1 frame", len(batch), score_all(scorer, batch), lambda: search(captioner, pixels), error)


def likelihood(captioner: PictureCaptioner, pixels: torch.Tensor, captions: list[list[int]]) -> np.ndarray:
    """Mean log-probability a token of each caption, by open_clip's own forward."""
    net: Any = captioner.model.net
    seen = net(pixels)
    out = []
    for i, caption in enumerate(captions):
        tokens = torch.tensor([[captioner.tokenizer.sot_token_id, *caption]], device=CARD)
        logits = net(
            None, tokens, image_latent=seen["image_features"][i : i + 1], image_embs=seen["image_embs"][i : i + 1],
            output_labels=False,
        )["logits"]  # fmt: skip
        each = logits[0, :-1].log_softmax(-1).gather(1, tokens[0, 1:, None])
        out.append(float(each.mean()))
    return np.array(out)


def blip_row(clips: Sequence[ClipFrames]) -> Row:
    """BLIP-2 OPT-2.7b over eight frames, 40 new tokens with 4 beams."""
    scorer = VideoCaption(WeightSettings())
    published = language_models.load_network
    language_models.load_network = random_blip
    try:
        with tempfile.TemporaryDirectory() as folder:
            save_tokenizer(Path(folder), OPT["vocab_size"])
            hf.BlipImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folder)
            scorer._captioner = captioner = language_models.VideoBlip(Path(folder))
    finally:
        language_models.load_network = published
    batch = clips[: scorer.batch_size]
    counts = [len(clip.uniform) for clip in batch]
    pixels = captioner.pixels([frame for clip in batch for frame in clip.uniform])

    @torch.inference_mode()
    def error() -> str:
        some = 8
        seen = pixels[: sum(counts[:some])]
        half = captioner.watch(seen, counts[:some]).float()
        for part in (captioner.net.vision_model, captioner.net.qformer, captioner.net.language_projection):
            part.float()
        captioner.net.query_tokens.data = captioner.net.query_tokens.data.float()
        exact = captioner.watch(seen.float(), counts[:some])
        return f"what the language model is shown: {float((half - exact).norm() / exact.norm()):.1e} relative"

    def bare() -> list[str]:
        return captioner.say(captioner.watch(pixels, counts), "", VIDEO_BEAMS, MAX_NEW_TOKENS)

    return Row("BLIP-2 OPT-2.7b, 8 frames", len(batch), score_all(scorer, batch), bare, error)


def random_blip(kind: Any, folder: Path, on: torch.device) -> Any:
    """In the place of `load_network`: BLIP-2 as published, with random weights in half precision."""
    text = hf.OPTConfig(**OPT).to_dict()
    config = hf.Blip2Config(vision_config=EYES, text_config=text, image_token_index=OPT["vocab_size"] - 1)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with on:
            net = kind(config)
    finally:
        torch.set_default_dtype(torch.float32)
    return randomise(net).eval()


def save_tokenizer(folder: Path, words: int) -> None:
    """A word for every number that the language model knows."""
    from tokenizers import Tokenizer, models, processors

    vocabulary = {"<unk>": 0, "<pad>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, words)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")
    fast.save_pretrained(folder)


def score_all(scorer: Scorer, clips: Sequence[ClipFrames]) -> Callable[[], object]:
    """The scorer on these clips."""
    return lambda: scorer.score(clips, [{}] * len(clips))


def seconds(run: Callable[[], object], times: int) -> float:
    """Seconds a call, of `times` calls in a row."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / times


ROWS: dict[str, Callable[[Sequence[ClipFrames]], Row]] = {
    "clip": clip_row,
    "craft": craft_row,
    "raft": raft_row,
    "coca": coca_row,
    "blip": blip_row,
}


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS), help="these networks alone")
    parser.add_argument("--clips", type=at_least_one, default=512, help="in each run, in batches of the scorer's size")
    parser.add_argument("--repeat", type=at_least_one, default=3, help="runs of which the best counts")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no card that CUDA can use")
    card = torch.cuda.get_device_properties(0)
    print(f"{card.name}, {card.total_memory / 1e9:.0f} GB; torch {torch.__version__}; frames {WIDTH}x{HEIGHT}")
    print(f"{'':28}{'batch':>6}{'ours':>9}{'bare':>9}{'ratio':>8}{'GB':>6}  error of half precision")
    clips = clips_of(64)
    for name in args.only:
        torch.cuda.empty_cache()
        row = ROWS[name](clips)
        torch.cuda.reset_peak_memory_stats()
        times = max(1, args.clips // row.batch)
        for warm_up in (row.ours, row.bare):
            warm_up()
        both = [(seconds(row.ours, times), seconds(row.bare, times)) for _ in range(args.repeat)]
        ours, bare = (row.batch / min(column) for column in zip(*both, strict=True))
        peak = torch.cuda.max_memory_allocated() / 1e9
        print(
            f"{row.name:28}{row.batch:6d}{ours:9.1f}{bare:9.1f}{ours / bare:8.0%}{peak:6.1f}  {row.error()}", flush=True
        )
        del row


if __name__ == "__main__":
    main()
