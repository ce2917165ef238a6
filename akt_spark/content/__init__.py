"""Embeddings: encoders, their alignment to collaborative signals, users' interests, and the Spark jobs that run them."""
