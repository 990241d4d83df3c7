"""How an imported network wants its pictures: by convention, by the file, or by its own statistics."""
