"""Diffusion mathematics and networks. Imports torch and nothing of ours."""
