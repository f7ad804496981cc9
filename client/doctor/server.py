"""Whether the server can be reached and knows this site; nothing is changed there.

One signed request is made: to activate the node with a heartbeat of no length. Flower
1.41 (``fleet_handlers.activate_node``) first looks the key up and then refuses the
heartbeat, always; which of the two refusals comes back says whether it knows the key.
"""

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from cryptography import x509

from client.doctor.verdict import Verdict, fault, ok, warning
from shared.invitation import Invitation

WAIT_S = 10.0
SOON = timedelta(days=14)
UNEASY_S = (2.5, 30.0)  # clock fast, slow: still accepted, but not for long
EXPIRED, NOT_YET = 10, 9  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, _NOT_YET_VALID
OTHER_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
ASK_OPERATOR = "tell the operator: tacit server renew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back to the one signed request.

    Attributes:
        status: Of HTTP.
        code: Flower's own, or 0.
        skew_s: This clock less the server's, in seconds; None: it did not say.
    """

    status: int
    code: int
    skew_s: float | None


def utc_now() -> datetime:
    """Return this machine's time."""
    return datetime.now(UTC)


def reach(invitation: Invitation) -> Verdict:
    """Open a connection and close it."""
    where = invitation.address
    try:
        socket.create_connection(_place(where), WAIT_S).close()
    except socket.gaierror:
        return fault(
            "server",
            f"{where}: no such name",
            "mend the name service of this machine, or ask the operator for a join "
            "file with the right address",
        )
    except OSError as error:
        return fault(
            "server",
            f"{where}: {type(error).__name__}",
            "let this machine open connections there (firewall), and ask the operator "
            "whether the server runs: tacit server status",
        )
    return ok("server", f"{where} is reached")


def authority(invitation: Invitation, now: datetime) -> Verdict:
    """Look at the dates of the operator's CA in the join file."""
    ca = x509.load_pem_x509_certificate(invitation.ca.encode())
    remedy = "ask the operator for a new join file"
    return _dated("operator's CA", ca, now, remedy)


def certificate(invitation: Invitation, now: datetime) -> Verdict:
    """Speak TLS with the server, believing the operator's CA alone."""
    host, port = _place(invitation.address)
    try:
        with (
            socket.create_connection((host, port), WAIT_S) as plain,
            trust(invitation).wrap_socket(plain, server_hostname=host) as secure,
        ):
            presented = secure.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        return _distrusted(host, error)
    except (ssl.SSLError, OSError) as error:
        return fault(
            "certificate",
            f"no TLS: {type(error).__name__}",
            "ask the operator what listens there; never send anything to it",
        )
    found = x509.load_der_x509_certificate(presented or b"")
    return _dated("certificate", found, now, ASK_OPERATOR)


def trust(invitation: Invitation) -> ssl.SSLContext:
    """Return how to speak TLS: with servers that the operator's CA vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=invitation.ca)
    return context


def ask(invitation: Invitation, node_key: Path) -> Answer:
    """Make the one signed request, which no server of Flower 1.41 grants."""
    import httpx  # noqa: PLC0415  # with Flower
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_ssh_private_key,
    )
    from flwr.proto.fleet_pb2 import ActivateNodeRequest  # noqa: PLC0415
    from flwr.supercore.error import FlowerError  # noqa: PLC0415
    from flwr.supercore.primitives.asymmetric import (  # noqa: PLC0415
        public_key_to_bytes,
    )
    from flwr.supernode.fleet_http_client import FleetHttpClient  # noqa: PLC0415
    from flwr.supernode.node_auth_http_interceptor import (  # noqa: PLC0415
        NodeAuthHttpInterceptor,
    )

    key = load_ssh_private_key(node_key.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("no elliptic curve")
    public = key.public_key()
    asked = ActivateNodeRequest(
        public_key=public_key_to_bytes(public), heartbeat_interval=0.0
    )
    with FleetHttpClient(
        f"https://{invitation.address}",
        interceptors=[NodeAuthHttpInterceptor(key, public)],
        verify=trust(invitation),
        timeout=WAIT_S,
    ) as client:
        before = utc_now()
        try:
            client.ActivateNode(asked)
        except httpx.HTTPStatusError as refused:
            response = refused.response
        else:
            return Answer(status=200, code=0, skew_s=None)
        middle = before + (utc_now() - before) / 2
    known = FlowerError.from_json(response.text)
    return Answer(
        status=response.status_code,
        code=known.code if known else 0,
        skew_s=_skew(middle, response.headers.get("date", "")),
    )


def flower_answers(answer: Answer) -> Verdict:
    """Say whether it was Flower's fleet API that answered."""
    if answer.code or answer.status == 401:
        return ok("fleet API", "answers")
    return fault(
        "fleet API",
        f"HTTP {answer.status}, not Flower",
        "tell the operator: tacit server status; the proxy must pass /v1/fleet/",
    )


def clock(answer: Answer) -> Verdict:
    """Compare this clock with the server's, by what Flower lets pass.

    A signature is refused from ``SYSTEM_TIME_TOLERANCE`` (5 s) ahead of the server's
    clock on, and ``TIMESTAMP_TOLERANCE`` (300 s) more behind it.
    """
    from flwr.common.constant import (  # noqa: PLC0415
        SYSTEM_TIME_TOLERANCE,
        TIMESTAMP_TOLERANCE,
    )

    skew, remedy = answer.skew_s, "set the clock by NTP: timedatectl set-ntp true"
    if skew is None:
        return warning("clock", "the server told no time", remedy)
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server"
    fast, slow = SYSTEM_TIME_TOLERANCE, SYSTEM_TIME_TOLERANCE + TIMESTAMP_TOLERANCE
    if not -slow < skew < fast:
        allowed = f"{fast} s ahead and {slow} s behind are allowed"
        return fault("clock", f"{found}; {allowed}", remedy)
    if skew > UNEASY_S[0] or skew < -UNEASY_S[1]:
        return warning("clock", found, remedy)
    return ok("clock", found)


def admitted(answer: Answer) -> Verdict:
    """Say whether the server knows this site's key, by which refusal came back."""
    from flwr.supercore.error import ApiErrorCode  # noqa: PLC0415

    if answer.code == ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
        return ok("admission", "the server knows this site's key")
    if answer.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
        return fault(
            "admission",
            "the server does not know this site's key",
            "send site.pub to the operator, who runs: tacit server admit site.pub",
        )
    if answer.status == 401:
        return fault(
            "admission",
            "the server refuses this site's signature",
            "set the clock right, and restore node.key from its backup if it was "
            "replaced",
        )
    return fault(
        "admission",
        f"HTTP {answer.status} tells nothing",
        "first mend: fleet API; then ask again",
    )


def _place(address: str) -> tuple[str, int]:
    """Return host and port; an IPv6 address stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _skew(here: datetime, date: str) -> float | None:
    """Return how far ``here`` is ahead; a server's date is cut to whole seconds."""
    try:
        there = parsedate_to_datetime(date) + timedelta(seconds=0.5)
        return (here - there).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return None


def _distrusted(host: str, error: ssl.SSLCertVerificationError) -> Verdict:
    """Say why the server's certificate is not believed."""
    if error.verify_code == EXPIRED:
        return fault("certificate", "it has expired", ASK_OPERATOR)
    if error.verify_code == NOT_YET:
        return fault(
            "certificate", "it is not valid yet", "set this machine's clock right"
        )
    if error.verify_code in OTHER_NAME:
        return fault(
            "certificate",
            f"it is not for {host}",
            f"{ASK_OPERATOR}, with this address in server.toml",
        )
    return fault(
        "certificate",
        "it is not signed by the CA of join.toml",
        "ask the operator by telephone, comparing fingerprints, for a new join file; "
        "until then somebody else may be answering",
    )


def _dated(check: str, found: x509.Certificate, now: datetime, remedy: str) -> Verdict:
    """Look at the dates of a certificate."""
    start, end = found.not_valid_before_utc, found.not_valid_after_utc
    said = f"valid from {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    if not start <= now <= end:
        return fault(check, f"{said}; today is {now:%Y-%m-%d}", remedy)
    if end - now < SOON:
        return warning(check, f"{said}: {(end - now).days} days left", remedy)
    return ok(check, said)
