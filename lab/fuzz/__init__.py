"""Fuzz tests: generated inputs that look for faults that no test expects."""
