"""From videos to shots, clips, scores, a manifest and a selection."""
