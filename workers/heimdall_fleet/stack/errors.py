"""What can go wrong with a local stack."""


class StackError(Exception):
    """A part of the stack did not start, or ended by itself; the message has its last lines."""
