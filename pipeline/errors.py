"""Errors that a user can mend: each message is one line that names the thing, what was found, what was expected."""


class PipelineError(Exception):
    """Base of the errors that end a run with exit status 1."""


class InputError(PipelineError):
    """An input file is missing, unreadable, damaged, or changed while it was read."""


class ConfigError(PipelineError):
    """An option's value cannot be used."""


class LostJobError(PipelineError):
    """A cluster has the job, but nothing answers that could report its state."""
