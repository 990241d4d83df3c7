"""What every row of the catalog promises: numbers on its tiny form, shapes at full depth and without memory."""
