"""Evaluation: what needs labels."""
