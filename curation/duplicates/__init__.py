"""Which clips of a manifest repeat another: in content, to the eye, or in meaning."""
