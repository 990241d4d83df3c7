"""Several processes at one task: who they are, and what happens when one is lost."""
