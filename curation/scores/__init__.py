"""The scorers: plain objects that measure clips. Measuring never drops a clip."""
