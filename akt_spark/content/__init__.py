"""Embeddings: encoders, their alignment to clicks, the interests of users, and the Spark stages that run them."""
