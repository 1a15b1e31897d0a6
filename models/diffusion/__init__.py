"""Noise schedules, parameterizations, losses, samplers and guidance: one picture, z_t = alpha_t x + sigma_t eps."""
