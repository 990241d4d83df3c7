"""Our networks against the code that they come from.

`references/` holds one module a source: which cases it runs, and the original code called on weights by formula. It
runs in an environment of its own (`make parity`), writes what each endpoint holds, and `test_parity.py` compares.
"""
