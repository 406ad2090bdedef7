"""Scoring: from numbers to decisions with a stated false-alarm rate.

`conformal.py` and `guarantee.py` work on plain NumPy scores of any model and never import torch.
"""
