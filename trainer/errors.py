"""What a person can put right: a wrong flag or value."""


class UserError(Exception):
    """A wrong flag or value; the message is one line: what was found, what was expected."""


class LostProcessError(UserError):
    """Another process of the same training is gone."""


class ToldError(UserError):
    """Another process of the same training has already said what went wrong."""


class Stopped(Exception):  # noqa: N818  (what happened, not what failed)
    """SIGTERM or Ctrl-C came, and the checkpoint is written."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
