"""Keras 1, 2 and 3: .h5, .weights.h5, .keras."""
