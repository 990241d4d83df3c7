"""The names, shapes and layouts of weights in each framework, and the networks that follow from them."""
