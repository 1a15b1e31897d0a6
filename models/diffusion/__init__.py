"""Schedules, parameterizations, losses, samplers, guidance, distillation: one picture, z_t = alpha_t x + sigma_t eps."""
