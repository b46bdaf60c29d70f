"""The learning loop: replay audit and feedback into a data set, then train, evaluate and promote on it."""
