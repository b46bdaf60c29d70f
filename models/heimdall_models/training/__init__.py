"""Outcome tables in, a bundle out: replayed or published outcomes → labels → fit → export → evaluate."""
