"""Baselines: classical models to stand beside every deep number. Contract in `base.py`, one member a file."""

from deepad.rooms import doors

__getattr__, __dir__ = doors("baselines", "Baseline")
