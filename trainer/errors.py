"""What a person can put right: a wrong flag or value."""


class UserError(Exception):
    """A wrong flag or value; the message is one line: what was found, what was expected."""
