"""NumPy: .npy and .npz, with the pickles of old weight files."""
