"""The model file: weights, header and checks of both."""
