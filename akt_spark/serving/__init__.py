"""Serving trained rankers: scores of pairs, the best candidates of users, and a folder that scores without Spark."""
