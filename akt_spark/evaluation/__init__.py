"""Metrics by slice, paired differences between variants, and the report."""
