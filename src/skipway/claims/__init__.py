"""The experiments that made these networks famous, re-run. Each is a file of `experiments`; the rest runs them."""
