"""The systems: published networks for video with their training recipes, conditioning and samplers, one file each."""
