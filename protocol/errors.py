"""Errors by fault. The third family, our own bugs, is every other exception: logged with its traceback."""


class PeerError(Exception):
    """The guest, the VMM or a viewer did wrong: the command or its connection fails, never the process."""


class ConfigError(Exception):
    """The caller or the configuration did wrong: a clear message and exit code 2."""
