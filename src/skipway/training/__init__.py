"""A run: a recipe, data and a network become a model file and a report, and can be resumed at any step."""
