"""From videos to shots, clips, scores, a manifest and a selection."""

import os

# Ray reads these when it is imported: no telemetry; 127.0.0.1 instead of the machine's public address; what matters of
# its log reaches us as exceptions.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
