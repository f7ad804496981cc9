"""A site as a service: the texts of a systemd unit and of a compose file.

Both run ``tacit site join`` with as few rights as it needs; neither is installed here.
"""

from pathlib import Path

from shared.systemd import argument, literal, owner, word

UNIT = """\
# Runs this site at every start of the machine. To install it:
#   sudo cp {unit} /etc/systemd/system/ && sudo systemctl daemon-reload
#   sudo systemctl enable --now tacit-site
[Unit]
Description=Tacit site {name}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User={owner}
WorkingDirectory={directory}
ExecStart={program} site join .
Environment=FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
Restart=always
# From 5 seconds to 5 minutes in 8 steps; systemd before 254 stays at 5 seconds.
RestartSec=5
RestartSteps=8
RestartMaxDelaySec=300
# A refusal that protects users (exit code 3) waits for a person.
RestartPreventExitStatus=3
UMask=0077
# The rest of the machine is read-only; add the folders of site.toml that lie elsewhere.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={folder}
PrivateTmp=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""
COMPOSE = """\
# Runs this site in a container, built from source that you have reviewed:
#   TACIT_SOURCE=/path/to/tacit docker compose up --detach --build
# The site's folder is mounted, and is never part of the image or of its build.
services:
  site:
    build:
      context: ${{TACIT_SOURCE:?the folder of the reviewed source}}
      dockerfile_inline: |
        FROM python:3.11-slim
        COPY . /src
        RUN pip install --no-cache-dir --constraint /src/constraints.txt /src
    command: ["tacit", "site", "join", "/site"]
    user: "{user}"
    volumes:
      - .:/site
    environment:
      FLWR_TELEMETRY_ENABLED: "0"
      FLWR_DISABLE_UPDATE_CHECK: "1"
      HOME: /tmp
    read_only: true
    tmpfs:
      - /tmp
    cap_drop:
      - ALL
    security_opt:
      - no-new-privileges:true
    restart: unless-stopped
"""
FILE = "tacit-site.service"


def unit_text(name: str, folder: Path, program: Path) -> str:
    """Return a hardened systemd unit for the site in ``folder``.

    Args:
        name: The site's name.
        folder: The site's folder; the service runs as its owner.
        program: The command ``tacit``.
    """
    whole = folder.resolve()
    return UNIT.format(
        unit=whole / FILE,
        name=name,
        owner=owner(folder),
        directory=literal(whole),
        folder=word(whole),
        program=argument(program),
    )


def compose_text(folder: Path) -> str:
    """Return a compose file for the site in ``folder``, run as the folder's owner."""
    state = folder.stat()
    return COMPOSE.format(user=f"{state.st_uid}:{state.st_gid}")
