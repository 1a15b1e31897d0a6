"""Networks F(z, noise, conditioning) that the parameterizations turn into denoisers."""
