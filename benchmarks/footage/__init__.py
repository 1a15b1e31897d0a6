"""Labelled footage synthesised from real shots, in small, for the transition network."""
