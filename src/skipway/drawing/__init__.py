"""Networks shown: as rows of figures, and as a picture."""
