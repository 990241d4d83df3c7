"""How fast a network runs on this machine, and how far that is from what the machine can do."""
