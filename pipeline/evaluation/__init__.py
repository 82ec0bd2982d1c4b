"""Measures of what the models make."""
