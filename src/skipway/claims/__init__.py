"""The experiments that made these networks famous, re-run: what runs, judges and draws them; each is a file of `experiments`."""
