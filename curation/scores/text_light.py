"""Text boxes by RapidOCR's detector alone (PP-OCR's DB, Liao et al. 2020): quick, and not to be trusted unchecked."""

from pathlib import Path

import numpy as np


class LightText:
    """RapidOCR with its own sizes and thresholds, recognition off."""

    def __init__(self, weights: Path, threads: int) -> None:
        from rapidocr import RapidOCR

        self._engine = RapidOCR(
            params={
                "Global.log_level": "error",
                "Det.model_path": str(weights),
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": threads,
            }
        )

    def boxes(self, frame: np.ndarray) -> list[np.ndarray]:
        """Boxes on an RGB uint8 frame (h, w, 3), each int32 (4, 2): corners x, y in the frame's pixels."""
        found = getattr(self._engine(frame[..., ::-1], use_det=True, use_cls=False, use_rec=False), "boxes", None)
        return [] if found is None else [np.asarray(box).round().astype(np.int32) for box in found]
