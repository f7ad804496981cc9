"""The SuperLink's control API, on loopback: nodes and runs.

Flower leaves this API without authentication, so the SuperLink listens on loopback
alone and the proxy passes none of it (docs/deploy.md).
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.common.serde import fab_to_proto, run_from_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import (
    RuntimeVersionHttpInterceptor,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from server.operator import Operator
from server.sites import admitted
from shared.config import Scalar
from shared.errors import ConfigError, ServerUnreachable
from shared.identity import Identity

UNREGISTERED = "unregistered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A site's node as the SuperLink knows it.

    Attributes:
        name: The site.
        node_id: Flower's number for it.
        status: ``registered`` (never seen), ``online`` or ``offline``.
        last_seen: When it came or went, UTC; None before it was seen.
    """

    name: str
    node_id: int
    status: str
    last_seen: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerRun:
    """A run as the SuperLink knows it.

    Attributes:
        id: Flower's number for it.
        status: Such as ``running`` or ``finished:completed``.
        details: What Flower says of its end.
    """

    id: int
    status: str
    details: str

    @property
    def over(self) -> bool:
        """Whether nothing happens in it any more."""
        return self.status.startswith("finished")


def nodes(operator: Operator) -> list[Node]:
    """Return the nodes of the federation, by name.

    Raises:
        ServerUnreachable: If the SuperLink does not answer.
    """
    with _control(operator) as control:
        known = _known(control)
    return sorted(
        (
            Node(
                name=node.name,
                node_id=node.node_id,
                status=node.status,
                last_seen=_newest(node.last_activated_at, node.last_deactivated_at),
            )
            for node in known
        ),
        key=lambda node: node.name,
    )


def register_admitted(operator: Operator) -> list[str]:
    """Make the SuperLink know the admitted sites by their keys, and nobody else.

    Returns:
        The sites that are newly known.

    Raises:
        ConfigError: If a site's key was expelled before; the others are known by then.
        ServerUnreachable: If the SuperLink does not answer.
    """
    wanted = {site.site: _node_key(site) for site in admitted(operator)}
    with _control(operator) as control:
        known = _known(control)
        for node in known:
            if wanted.get(node.name) != node.public_key:
                control.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
        new = wanted.items() - {(node.name, node.public_key) for node in known}
        refused = [name for name, key in sorted(new) if not _take(control, name, key)]
    if refused:
        raise ConfigError(
            f"the SuperLink takes no expelled key again: {', '.join(refused)} must "
            "send a new site.pub, made by tacit site rotate; tacit server expel first"
        )
    return sorted(name for name, _ in new)


def expel_node(operator: Operator, name: str) -> None:
    """Make the SuperLink refuse the node of a site.

    Raises:
        ServerUnreachable: If the SuperLink does not answer.
    """
    found = [node.node_id for node in nodes(operator) if node.name == name]
    with _control(operator) as control:
        for node_id in found:
            control.UnregisterNode(UnregisterNodeRequest(node_id=node_id))


def runs(operator: Operator) -> list[FlowerRun]:
    """Return all runs, oldest first.

    Raises:
        ServerUnreachable: If the SuperLink does not answer.
    """
    with _control(operator) as control:
        listed = control.ListRuns(ListRunsRequest()).run_dict
    found = []
    for number in sorted(listed, key=lambda n: listed[n].pending_at):
        status = run_from_proto(listed[number]).status
        ended = f"{status.status}:{status.sub_status}".rstrip(":")
        found.append(FlowerRun(id=number, status=ended, details=status.details))
    return found


def start_run(operator: Operator, bundle: bytes, config: Mapping[str, Scalar]) -> int:
    """Start a run of the app bundle and return Flower's number for it.

    Raises:
        ServerUnreachable: If the SuperLink does not answer.
    """
    fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
    asked = StartRunRequest(
        fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(config))
    )
    with _control(operator) as control:
        return int(control.StartRun(asked).run_id)


def stop_run(operator: Operator, number: int) -> None:
    """Stop a run.

    Raises:
        ServerUnreachable: If the SuperLink does not answer.
    """
    with _control(operator) as control:
        control.StopRun(StopRunRequest(run_id=number))


def _known(control: ControlHttpClient) -> list[NodeInfo]:
    listed = control.ListNodes(ListNodesRequest()).nodes_info
    return [node for node in listed if node.status != UNREGISTERED]


def _take(control: ControlHttpClient, name: str, key: bytes) -> bool:
    """Register a node; return whether its key was new to the SuperLink."""
    try:
        control.RegisterNode(RegisterNodeRequest(public_key=key, name=name))
    except httpx.HTTPStatusError as error:
        told = FlowerError.from_json(error.response.text)
        if told is None or told.code != ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE:
            raise
        return False
    return True


def _node_key(site: Identity) -> bytes:
    """Return the public key of a site's node as Flower keeps it."""
    key = load_ssh_public_key(site.node.encode())
    if not isinstance(key, EllipticCurvePublicKey):
        raise ConfigError(f"the node key of {site.site} is not an EC key")
    return public_key_to_bytes(key)


@contextmanager
def _control(operator: Operator) -> Iterator[ControlHttpClient]:
    """Open the control API, with the federation's own CA."""
    client = ControlHttpClient.from_server_address(
        f"127.0.0.1:{operator.settings.port}",
        insecure=False,
        root_certificates=str(operator.ca),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    try:
        yield client
    except httpx.HTTPStatusError as error:
        raise ServerUnreachable(
            f"the SuperLink on port {operator.settings.port} answered "
            f"{error.response.status_code}: {error.response.text[:200]}"
        ) from None
    except httpx.TransportError as error:
        raise ServerUnreachable(
            f"no SuperLink answers on port {operator.settings.port} "
            f"({type(error).__name__}); tacit server start {operator.folder}"
        ) from None
    finally:
        client.close()


def _newest(*times: str) -> datetime | None:
    """Return the newest of these ISO times that are there, in UTC."""
    read = [datetime.fromisoformat(time) for time in times if time]
    return max((time.astimezone(UTC) for time in read), default=None)
