"""Weight files of other frameworks, read and written: everything between their names and ours."""
