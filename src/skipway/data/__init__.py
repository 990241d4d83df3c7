"""Pictures: where they come from, how they are decoded, prepared and varied, and the batches of a run."""
