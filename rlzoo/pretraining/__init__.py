"""Supervised runs, which give a torso something to start from."""
