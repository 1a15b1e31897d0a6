"""The layers that the systems share. What mixes frames is in `temporal` and `frame_attention`, and nowhere else."""
