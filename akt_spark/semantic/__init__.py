"""Semantic IDs: residual codes of aligned vectors, fitted once, gated by health, published so that no ID ever moves."""
