"""Answered orders that are asked of another model too, for labels; nobody is told."""
