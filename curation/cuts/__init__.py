"""Where shots end: hard cuts, fades and dissolves."""
