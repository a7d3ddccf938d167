"""Errors that are meant for the person who typed something, not for the one who wrote it.

The tools print them as one sentence and keep the traceback for accidents (:func:`mmvim.commands.run_tool`). Each is
also Python's own error of that name, so that callers of the library catch what they always caught. All take their
sentence alone: some releases of OpenMMLab make errors anew, from their type and their text.
"""


class UserError(Exception):
    """Something that was given, or that is there, does not fit; the text says what, and what to type instead."""


class UserValueError(UserError, ValueError):
    """A value that cannot be meant."""


class UserTypeError(UserError, TypeError):
    """A value of a kind that cannot be meant."""


class UserRuntimeError(UserError, RuntimeError):
    """What is there does not do what was asked for."""


class UserNotImplementedError(UserError, NotImplementedError):
    """Something that exists elsewhere and not here."""


class UserOSError(UserError, OSError):
    """A file that cannot be read or written."""


class UserFileNotFoundError(UserError, FileNotFoundError):
    """A file that is missing."""


class UserFileExistsError(UserError, FileExistsError):
    """A file that is in the way."""


class UserImportError(UserError, ImportError):
    """A package that does not give what is needed of it."""


class UserModuleNotFoundError(UserError, ModuleNotFoundError):
    """A package that is not installed."""
