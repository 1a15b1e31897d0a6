"""The networks that open_clip runs: CLIP for pictures and texts, LAION's aesthetic head, CoCa for captions."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from curation.scores import coca_decoder
from curation.scores.accelerator import device, uploaded
from curation.scores.coca_decoder import CocaDecoder

_INTERPOLATION = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


class OpenClip:
    """A model folder as open_clip knows it (`open_clip_config.json` and weights), on the card if there is one.

    Radford et al. 2021. `on_card` is open_clip's name of the precision there: its mixed fp16, or pure_bf16; fp32 on the
    CPU. With random weights of ViT-L/14, cosines in fp16 were within 2e-4 of those in fp32.
    """

    def __init__(self, folder: Path, on_card: str = "fp16") -> None:
        self.device = device()
        name = f"local-dir:{folder}"
        precision = on_card if self.device.type == "cuda" else "fp32"
        self.net: Any = open_clip.create_model(name, precision=precision, device=self.device, require_pretrained=True)
        self.net.eval()
        self.dtype = {"fp32": torch.float32, "fp16": torch.float16, "pure_bf16": torch.bfloat16}[precision]
        self.tokenizer = open_clip.get_tokenizer(name)
        self.preprocessing = open_clip.get_model_preprocess_cfg(self.net)

    def pixels(self, frames: Sequence[np.ndarray]) -> Tensor:
        """RGB uint8 frames (h, w, 3) of any sizes -> (n, 3, height, width) in the model's precision, normalised.

        open_clip's evaluation transform, where the network runs: resized in uint8, which differs from Pillow's result
        by at most a few grey levels at single pixels. Raises ValueError for a resize mode other than shortest, squash.
        """
        wanted = self.preprocessing
        size = wanted["size"]
        height, width = (size, size) if isinstance(size, int) else size
        mode = wanted["resize_mode"]
        if mode not in {"shortest", "squash"} or (mode == "shortest" and height != width):
            raise ValueError(f"cannot resize to {height}x{width} in open_clip's mode {mode!r}")
        to = [height] if mode == "shortest" else [height, width]
        small = torch.empty(len(frames), 3, height, width, dtype=torch.uint8, device=self.device)
        for shape in {frame.shape for frame in frames}:  # those of one size travel and shrink together
            at = [i for i, frame in enumerate(frames) if frame.shape == shape]
            pictures = uploaded([frames[i] for i in at], self.device).permute(0, 3, 1, 2)
            pictures = TF.resize(pictures, to, _INTERPOLATION[wanted["interpolation"]], antialias=True)
            small[at] = TF.center_crop(pictures, [height, width])
        batch = small.to(torch.float32).div_(255)
        return TF.normalize(batch, list(wanted["mean"]), list(wanted["std"])).to(self.dtype)

    @torch.inference_mode()
    def picture_features(self, frames: Sequence[np.ndarray]) -> Tensor:
        """RGB uint8 frames -> float32 (n, dim) of unit length, on the model's device."""
        return nn.functional.normalize(self.net.encode_image(self.pixels(frames)).float(), dim=-1)

    @torch.inference_mode()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Texts, cut at the model's context length -> float32 (n, dim) of unit length, on the model's device."""
        tokens = self.tokenizer(list(texts)).to(self.device)
        return nn.functional.normalize(self.net.encode_text(tokens).float(), dim=-1)


@lru_cache(maxsize=1)
def clip_model(folder: Path) -> OpenClip:
    """The process's CLIP, shared by the scorers that use it."""
    return OpenClip(folder)


def aesthetic_head(file: Path, dim: int) -> nn.Sequential:
    """LAION's aesthetic predictor on unit-length CLIP features: float32 (n, dim) -> (n, 1), about 1 to 10.

    The linear head (`weight`, `bias`) and the published MLP (`layers.0` to `layers.7`) are both chains of linear layers
    without activations (its dropouts do nothing in evaluation), so the shapes alone say what to build. Raises
    ValueError, naming the shapes, for anything that is no such chain from `dim` numbers to one.
    """
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(file)
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
    names = [k.removesuffix("weight") for k in state if k.endswith("weight")]
    names.sort(key=lambda name: [int(part) for part in name.split(".") if part.isdigit()])
    shapes = [tuple(state[f"{name}weight"].shape) for name in names]
    ins = [dim, *(shape[0] for shape in shapes)]
    chained = all(len(s) == 2 and s[1] == before for s, before in zip(shapes, ins, strict=False))
    if (
        not shapes
        or not chained
        or ins[-1] != 1
        or set(state) != {f"{n}{p}" for n in names for p in ("weight", "bias")}
    ):
        raise ValueError(f"{file.name} is no chain of linear layers from {dim} numbers to one: {shapes}")
    layers = [nn.Linear(shape[1], shape[0]) for shape in shapes]
    for layer, name in zip(layers, names, strict=True):
        layer.load_state_dict({p: state[f"{name}{p}"].float() for p in ("weight", "bias")})
    return nn.Sequential(*layers).eval()


class PictureCaptioner:
    """CoCa (Yu et al. 2022), fine-tuned to caption: an image tower and a text decoder that attends to it.

    open_clip's own `generate` needs a class that transformers 5 no longer has, so the search is ours. Its default, six
    beams in three groups without a diversity penalty, is three times the same search with two beams.
    """

    def __init__(self, folder: Path) -> None:
        self.model = OpenClip(folder, on_card="pure_bf16")
        if not isinstance(self.model.net, open_clip.CoCa):
            raise ValueError(f"{folder.name} is no CoCa: its configuration has no multimodal_cfg")
        if not isinstance(self.model.tokenizer, open_clip.SimpleTokenizer):
            raise ValueError(f"{folder.name} has another tokenizer than CLIP's: its captions cannot be spelt")
        coca_decoder.check(self.model.net)
        self._decoder: CocaDecoder | None = None
        self.tokenizer = self.model.tokenizer

    def caption(self, frames: Sequence[np.ndarray], beams: int, min_length: int, max_length: int) -> list[str]:
        """RGB uint8 frames -> one caption each; lengths in tokens, start and end included."""
        found = self.search(self.model.pixels(frames), beams, min_length, max_length)
        return [" ".join(self.tokenizer.decode(ids).split()) for ids in found]

    @torch.inference_mode()
    def search(self, pixels: Tensor, beams: int, min_length: int, max_length: int) -> list[list[int]]:
        """Pictures (n, 3, height, width) as `OpenClip.pixels` gives them -> the tokens of a caption each."""
        states = self.model.net(pixels)["image_embs"]
        decoder = self._begun(states, beams, min(max_length, self.model.net.context_length))
        found = beam_search(
            decoder.step,
            decoder.pictures,
            start=self.tokenizer.sot_token_id,
            end=self.tokenizer.eot_token_id,
            beams=beams,
            min_length=min_length,
            max_length=decoder.longest,
            on=self.model.device,
        )
        return found[: len(pixels)]

    def _begun(self, states: Tensor, beams: int, longest: int) -> CocaDecoder:
        """A decoder for these pictures. On a card, the last batch's if it is large enough: some rows then idle."""
        last = self._decoder
        if last is None or last.pictures < len(states) or (last.beams, last.longest) != (beams, longest):
            last = self._decoder = None  # its memory first
            last = CocaDecoder(self.model.net, len(states), beams, longest)
            if states.is_cuda:
                last.begin(states)
                last.record()
                self._decoder = last
        idle = states.new_zeros(last.pictures - len(states), *states.shape[1:])
        last.begin(torch.cat([states, idle]))
        return last


def beam_search(
    step: Callable[[Tensor, Tensor], Tensor],
    batch: int,
    *,
    start: int,
    end: int,
    beams: int,
    min_length: int,
    max_length: int,
    on: torch.device,
) -> list[list[int]]:
    """The likeliest continuation of `start` for each of a batch: the highest mean log-probability a token.

    `step(tokens, rows)` maps the newest tokens int64 (batch * beams,) to logits (batch * beams, vocabulary) of the next
    ones; row i goes on from what row `rows[i]` was the step before. Lengths count `start` and `end`; `end` is not
    chosen below `min_length` tokens. Returns the tokens between start and end. One beam is greedy.
    """
    first = torch.arange(batch, device=on)[:, None] * beams
    newest = torch.full((batch * beams,), start, dtype=torch.int64, device=on)
    rows = torch.arange(batch * beams, device=on)
    said = newest[:, None]
    total = torch.full((batch, beams), -torch.inf, device=on)
    total[:, 0] = 0  # all beams hold the same token at first: only one of them may branch
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(batch)]
    searching = set(range(batch))  # who is done is left alone, so that no caption depends on its neighbours
    for length in range(1, max_length):
        scores = step(newest, rows).float().log_softmax(-1)
        if length < min_length:
            scores[:, end] = -torch.inf
        vocabulary = scores.shape[-1]
        scores = (total[:, :, None] + scores.view(batch, beams, vocabulary)).flatten(1)
        # At most `beams` of these can be an end, so `beams` that go on are always among them.
        best, where = scores.topk(2 * beams, dim=1)
        ended = where % vocabulary == end
        going = ended.int().argsort(dim=1, stable=True)[:, :beams]
        total = best.gather(1, going)
        hopes, some_ended = (total[:, 0] / length).tolist(), bool(ended[:, :beams].any())
        if some_ended:
            ranks, captions = [t.cpu() for t in (torch.stack([best, (first + where // vocabulary)], -1), said)]
            for item, rank in ended[:, :beams].nonzero().tolist():
                if item in searching:
                    score, row = ranks[item, rank].tolist()
                    finished[item].append((score / length, captions[int(row), 1:].tolist()))
                    finished[item] = sorted(finished[item], key=lambda f: -f[0])[:beams]
        searching -= {i for i in searching if len(finished[i]) == beams and finished[i][-1][0] >= hopes[i]}
        where = where.gather(1, going)
        rows, newest = (first + where // vocabulary).flatten(), (where % vocabulary).flatten()
        said = torch.cat([said[rows], newest[:, None]], dim=1)
        if not searching:
            break
    for item in searching:  # what has not ended by now competes as it stands
        rest = said.view(batch, beams, -1)[item, :, 1:].tolist()
        finished[item] += [(float(t) / len(ids), ids) for t, ids in zip(total[item], rest, strict=True)]
    return [max(found, key=lambda f: f[0])[1] for found in finished]
