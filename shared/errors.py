"""Every error that Tacit raises on purpose, as one tree.

    TacitError                 one line for a person; exit code 1
    ├── InputError             what was given cannot be used; exit code 2
    │   ├── ConfigError        a key, a value or a file of settings
    │   ├── DataError          interactions or items
    │   └── ModelError         encoder weights or an adapter that does not fit
    ├── StoreFailed            what users do live cannot be kept or read; exit code 1
    ├── ServerUnreachable      no SuperLink answers; exit code 1
    ├── RoundError             the federation cannot go on; exit code 1
    │   ├── QuorumLost         too few sites answered in time
    │   ├── UpdateCopied       two sites sent one and the same update
    │   ├── VersionMissing     a step came, but not the version that it starts from
    │   └── WorkerLost         a process of a simulation died over its work
    └── PrivacyError           refused, never retried, never softened; exit code 3
        ├── PolicyRefused      the plan asks for more than the site allows
        ├── BudgetSpent        the round would pass the site's budget
        ├── LedgerBroken       the record of spent privacy cannot be trusted
        ├── LedgerBusy         another process of the site is in a round
        ├── CodeRefused        an app bundle that the site has not approved
        └── EgressRefused      a reply that may not leave

A message names the thing, the value, the limit and the next step. It may name tensors,
agreed sizes and configuration keys; never a user's id or data. Only the class name of
an error crosses the wire.
"""


class TacitError(Exception):
    """Root of the tree. ``exit_code`` is what the command line returns."""

    exit_code = 1


class InputError(TacitError):
    """What was given cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A setting is unknown, missing, of the wrong type or out of range."""


class DataError(InputError):
    """Interactions or items cannot be used; lists every class of problem at once."""


class ModelError(InputError):
    """Encoder weights or an adapter do not fit what was agreed."""


class StoreFailed(TacitError):
    """The serving store cannot be written or read; nothing was acknowledged."""


class ServerUnreachable(TacitError):
    """The SuperLink does not answer."""


class RoundError(TacitError):
    """The federation cannot go on."""


class QuorumLost(RoundError):
    """Too few sites answered before the deadline."""


class UpdateCopied(RoundError):
    """A site's update is another's, longer, shorter or turned round at most."""


class VersionMissing(RoundError):
    """The adapter came as a step from a version that the site does not hold."""


class WorkerLost(RoundError):
    """A worker process of a simulation died; its work is not done."""


class PrivacyError(TacitError):
    """A refusal that protects users: never retried, never downgraded to a warning."""

    exit_code = 3


class PolicyRefused(PrivacyError):
    """The plan asks for more than the site's own policy allows."""


class BudgetSpent(PrivacyError):
    """The round would bring the site above its privacy budget."""


class LedgerBroken(PrivacyError):
    """The ledger cannot be read, written or believed."""


class LedgerBusy(PrivacyError):
    """Another process of the same site is in a round; one at a time."""


class CodeRefused(PrivacyError):
    """An app bundle is not approved, or is none that Tacit would have built."""


class EgressRefused(PrivacyError):
    """A reply holds something that may not leave the site."""
