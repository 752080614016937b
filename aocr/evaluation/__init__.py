"""Evaluation of a model on records: metrics, reports and attention pictures."""
