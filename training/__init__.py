"""From a selection to batches, stages, checkpoints and samples."""
