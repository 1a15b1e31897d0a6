"""Text boxes by RapidOCR's detector alone (PP-OCR's DB, Liao et al. 2020): quick, and not to be trusted unchecked."""

import tempfile
from pathlib import Path

import numpy as np


class LightText:
    """RapidOCR with its own sizes and thresholds, recognition off."""

    def __init__(self, weights: Path, threads: int) -> None:
        from rapidocr import RapidOCR

        self._weights = tempfile.NamedTemporaryFile(suffix=".onnx")  # noqa: SIM115 - read when the engine is first used
        self._weights.write(without_subnormals(weights))
        self._weights.flush()
        self._engine = RapidOCR(
            params={
                "Global.log_level": "error",
                "Det.model_path": self._weights.name,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": threads,
            }
        )

    def boxes(self, frame: np.ndarray) -> list[np.ndarray]:
        """Boxes on an RGB uint8 frame (h, w, 3), each int32 (4, 2): corners x, y in the frame's pixels."""
        found = getattr(self._engine(frame[..., ::-1], use_det=True, use_cls=False, use_rec=False), "boxes", None)
        return [] if found is None else [np.asarray(box).round().astype(np.int32) for box in found]


def without_subnormals(weights: Path) -> bytes:
    """An ONNX model with zeros in place of weights below float32's least normal number (1.2e-38).

    PP-OCR's detector has a quarter of a million of them. They change none of its values, and with them the detector
    takes four times as long on an Intel processor.
    """
    import onnx

    model = onnx.load(weights)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tiny = np.abs(values) < np.finfo(np.float32).tiny
            if tiny.any():
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.where(tiny, np.float32(0), values), tensor.name))
    return model.SerializeToString()
