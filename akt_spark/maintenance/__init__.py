"""What keeps a lake small and quick: old rows, models and files removed by policy, small files compacted."""
