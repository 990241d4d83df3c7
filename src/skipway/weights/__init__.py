"""The model file, and weight files of other frameworks read into it and written from it."""
