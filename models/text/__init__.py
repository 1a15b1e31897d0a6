"""Frozen text encoders: captions in, token states out."""
