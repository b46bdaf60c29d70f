"""Providers: one dialect per wire family as pure functions, one HTTP module, and scripted servers to test against."""
