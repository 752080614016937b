"""Tests of a model: metrics, reports and attention pictures."""
