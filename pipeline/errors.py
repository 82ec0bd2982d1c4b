"""Errors that a user can act on."""


class UserError(Exception):
    """A mistake outside this program: one sentence with the offending value and what to do about it.

    The command line prints the sentence without a traceback and exits with status 2.
    """


class ObjectFailed(Exception):
    """One object cannot be processed; the reason is a few words and becomes a row of the stage's `failures` table."""
