"""Which array of another framework is which of our tensors: one table a family, read in both directions."""
