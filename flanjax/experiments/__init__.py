"""Matrices of trainings and evaluations: described by gin, run cell by cell, gathered, drawn."""
