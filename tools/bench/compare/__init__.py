"""Grapnel beside its peers. Read __main__.py first; engines.py holds what is timed."""
