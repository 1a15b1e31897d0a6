"""CRAFT (Baek et al. 2019): a network that scores each pixel as part of a character, and of the gap between two."""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import onnxruntime as ort
    import torch

# The published thresholds (section 4.2), as EasyOCR uses them.
CRAFT = {"text_threshold": 0.7, "link_threshold": 0.4, "low_text": 0.4}
MIN_SIDE = 32  # it halves a picture four times, and EasyOCR pads to multiples of 32
_MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
_STD = np.array([0.229, 0.224, 0.225], np.float32) * 255


class Craft:
    """CRAFT's network as EasyOCR has loaded it; scores are from ONNX Runtime on a CPU, a fifth quicker than torch."""

    def __init__(self, net: Any, device: "torch.device | str", threads: int = 1) -> None:
        import torch

        self.net = net.to(memory_format=torch.channels_last)  # a tenth quicker on a CPU
        self.device = device
        self._session = _onnx_session(net, threads) if torch.device(device).type == "cpu" else None

    def full(self, frame: np.ndarray, canvas_px: int) -> list[np.ndarray]:
        """Boxes on an RGB uint8 frame (h, w, 3), exactly as EasyOCR finds them on a canvas of that long side.

        A frame that is smaller is not enlarged. Each box is int32 (4, 2): corners x, y in the frame's pixels.
        """
        from easyocr.detection import get_textbox

        boxes = get_textbox(
            self.net,
            _at_least(frame, MIN_SIDE),
            canvas_size=canvas_px,
            mag_ratio=1.0,
            poly=False,
            device=self.device,
            optimal_num_chars=None,
            **CRAFT,
        )[0]
        return [np.asarray(box, np.int32).reshape(-1, 2) for box in boxes]

    def boxes(self, heat: np.ndarray) -> np.ndarray:
        """Boxes from the scores (h / 2, w / 2, 2) of a picture: float32 (n, 4, 2), corners x, y in its pixels."""
        from easyocr.craft_utils import adjustResultCoordinates, getDetBoxes

        thresholds = CRAFT["text_threshold"], CRAFT["link_threshold"], CRAFT["low_text"]
        boxes = getDetBoxes(heat[..., 0], heat[..., 1], *thresholds, poly=False)[0]
        return adjustResultCoordinates(np.array(boxes, np.float32).reshape(-1, 4, 2), 1, 1)

    def heat(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Scores of RGB uint8 pictures (h, w, 3) of one size: float32 (n, h / 2, w / 2, 2), character and link.

        Sides below 32 pixels are filled up.
        """
        filled = [_at_least(p, MIN_SIDE) for p in pictures]
        if self._session is None:
            return self.on_card(filled).cpu().numpy()
        stack = (np.stack(filled).astype(np.float32) - _MEAN) / _STD
        return np.asarray(self._session.run(["heat"], {"pixels": stack.transpose(0, 3, 1, 2)})[0])

    def on_card(self, pictures: Sequence[np.ndarray]) -> "torch.Tensor":
        """`heat` by torch where the network is, and left there; in half precision on a card."""
        import torch

        from curation.scores.accelerator import half, uploaded

        on = torch.device(self.device)
        mean, std = (torch.from_numpy(numbers).to(on) for numbers in (_MEAN, _STD))
        with torch.inference_mode(), torch.autocast(on.type, half(on), enabled=on.type != "cpu"):
            pixels = (uploaded(pictures, on).float() - mean) / std
            return self.net(pixels.permute(0, 3, 1, 2))[0].float()  # (n, h, w, 3) permuted is channels_last


def _onnx_session(net: Any, threads: int) -> "ort.InferenceSession":
    """The network in ONNX Runtime, for pictures of any size."""
    import onnxruntime as ort
    import torch

    graph = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this exporter old; the new one needs yet another package
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, 64, 64),),
            graph,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=17,
            input_names=["pixels"],
            output_names=["heat", "features"],
            dynamic_axes={"pixels": {0: "n", 2: "h", 3: "w"}, "heat": {0: "n", 1: "y", 2: "x"}},
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return ort.InferenceSession(graph.getvalue(), options, providers=["CPUExecutionProvider"])


def _at_least(frame: np.ndarray, side: int) -> np.ndarray:
    """The frame with its last row and column repeated up to `side`."""
    pad = (max(0, side - frame.shape[0]), max(0, side - frame.shape[1]))
    return cv2.copyMakeBorder(frame, 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE) if any(pad) else frame
