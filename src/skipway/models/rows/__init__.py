"""The rows of the catalog, one module a family."""
