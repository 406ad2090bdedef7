"""Report: figures and the page a person reads."""
