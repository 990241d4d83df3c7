"""Networks: pure torch.nn, no files."""
