"""How good a classifier is: the figures, which pictures may judge it, and the report."""
