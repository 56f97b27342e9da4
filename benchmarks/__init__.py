"""Ratios against peers, measured in one run: one script a subject."""
