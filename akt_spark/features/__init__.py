"""Point-in-time features in Spark: activity, sequences, segments and training samples (nothing here imports torch)."""
