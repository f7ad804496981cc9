"""The error of a request that cannot be answered as it is asked; HTTP 400.

Its message is for whoever asks, so it repeats nothing of the request and nothing of the
site. Every other error of serving is the site's own and is told in its log alone.
"""

from shared.errors import ConfigError


class Refused(ConfigError):
    """A request asks for what this site does not have or does not do."""
