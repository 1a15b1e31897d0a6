"""The two networks of the embedded profile: EfficientNet-lite0 for pictures, MiniLM for sentences.

Both are loaded once per process and shared by the scorers that use them.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from curation.weights import EFFICIENTNET, MINILM, resolve

IMAGE_SIZE = 224
RESIZE = 256  # ImageNet's usual evaluation crop: 224 out of a short side of 256


def limit_threads(cpus: float) -> None:
    """Keep torch and OpenCV on the cores that this scorer was given: Ray counts them, the libraries do not."""
    threads = max(1, int(cpus))
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


class ImageClassifier:
    """EfficientNet-lite0 (Tan and Le 2019; the lite variant has ReLU6 and no squeeze-and-excite), ImageNet-1k classes.

    `names[i]` is the everyday name of class i: the first lemma of its WordNet synset.
    """

    def __init__(self, weights: Path) -> None:
        import timm
        from timm.data.imagenet_info import ImageNetInfo

        self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        state = torch.load(weights, map_location="cpu", weights_only=True)
        self.net.load_state_dict(_timm_names(state, self.net))
        self.net.eval()
        self.names = [name.split(",")[0] for name in ImageNetInfo("imagenet-1k").label_descriptions()]

    @torch.inference_mode()
    def probabilities(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """RGB uint8 frames (h, w, 3) of any sizes -> float32 (n, 1000), rows sum to one."""
        pixels = torch.from_numpy(np.stack([_centre(f) for f in frames])).permute(0, 3, 1, 2)
        return self.net(pixels.float().div_(127.5).sub_(1)).softmax(-1).numpy()


class SentenceEncoder:
    """all-MiniLM-L6-v2 (Wang et al. 2020; Reimers and Gurevych 2019): 384 numbers a sentence."""

    dim = 384

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.net = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch_size: int = 128) -> np.ndarray:
        """Sentences -> float32 (n, 384) of unit length: the mean of the token states, padding left out."""
        out = np.empty((len(texts), self.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # like lengths together: little padding
        for at in range(0, len(order), batch_size):
            rows = order[at : at + batch_size]
            tokens = self.tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            states = self.net(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1).float()
            mean = (states * mask).sum(1) / mask.sum(1)
            out[rows] = nn.functional.normalize(mean, dim=-1).numpy()
        return out


@lru_cache(maxsize=1)
def image_classifier(folder: str = "") -> ImageClassifier:
    """The process's classifier. `folder` is looked at before the package. Raises MissingWeightsError."""
    return ImageClassifier(resolve(EFFICIENTNET, folder).file())


@lru_cache(maxsize=1)
def sentence_encoder(folder: str = "") -> SentenceEncoder:
    """The process's sentence encoder. `folder` is looked at before the package. Raises MissingWeightsError."""
    return SentenceEncoder(resolve(MINILM, folder).path)


def _centre(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = RESIZE / min(height, width)
    size = (max(RESIZE, round(width * scale)), max(RESIZE, round(height * scale)))
    resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (size[1] - IMAGE_SIZE) // 2, (size[0] - IMAGE_SIZE) // 2
    return resized[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]


def _timm_names(state: dict[str, torch.Tensor], net: nn.Module) -> dict[str, torch.Tensor]:
    """The package names layers after the TensorFlow release, timm by stage: the same network under other names."""
    blocks = [f"blocks.{s}.{b}" for s, stage in enumerate(net.blocks) for b in range(len(stage))]  # type: ignore[arg-type, union-attr]
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                 "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    out = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            number = int(parts[1])
            layer = (expanding if f"_blocks.{number}._expand_conv.weight" in state else plain)[parts[2]]
            out[f"{blocks[number]}.{layer}.{parts[3]}"] = value
        else:
            out[f"{top[parts[0]]}.{parts[1]}"] = value
    return out
