"""The experiments that made these networks famous, re-run: one file a claim."""
