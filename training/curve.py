"""The loss curve of a stage as a picture."""

import json
from pathlib import Path

from training.checkpoint import write_atomic


def draw_curve(metrics: Path, picture: Path, title: str) -> list[float]:
    """Plot the losses in `metrics` (one JSON object a line) into the PNG `picture`; returns them, oldest first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    samples, losses = [line["samples"] for line in lines], [line["loss"] for line in lines]
    figure = Figure(figsize=(5, 3), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(samples, losses, color="#999999", linewidth=1, label="loss")
    smooth, value = [], losses[0] if losses else 0.0
    for loss in losses:
        value += 0.2 * (loss - value)
        smooth.append(value)
    axes.plot(samples, smooth, color="#c0392b", linewidth=2, label="smoothed")
    axes.set(xlabel="samples", ylabel="loss", title=title)
    axes.legend(frameon=False)
    write_atomic(picture, lambda temporary: FigureCanvasAgg(figure).print_png(str(temporary)))
    return losses
