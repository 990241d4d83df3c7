"""What must never break, attacked at random: `python -m scripts.torture`."""
