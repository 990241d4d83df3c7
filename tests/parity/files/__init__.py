"""The frameworks' own weight files against the models that `skipway import` makes of them.

A module a framework: it builds networks at full size, writes their files and classifies photos in the framework's own
way, geometry and all. It runs in that framework's environment (`write.py`); `judge.py` imports each file and classifies
the same photos by what the model file holds. `make parity` prints how far the two are apart.
"""
