"""What a finished run came to, from its audit records alone."""
