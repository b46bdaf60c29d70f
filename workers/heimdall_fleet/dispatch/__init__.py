"""Orders in, answers out: `pipeline` tells the story, every name in it is a neighbouring file."""
