"""The fourteen claims, one file each."""
