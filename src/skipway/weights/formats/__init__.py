"""Weight files of other frameworks, read and written without them; nothing in a file is ever run."""
