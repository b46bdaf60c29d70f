"""From logged decisions and their rewards to a better bundle, and to the proof that it is better."""
