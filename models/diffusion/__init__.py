"""Schedules, parameterizations, losses, samplers, guidance, distillation: all of z_t = alpha_t x + sigma_t eps."""
