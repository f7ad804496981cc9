"""How a server is run: a proxy's configuration, a systemd unit, a compose file.

They are written from ``server.toml`` and installed by a person, not by us.
"""

from pathlib import Path

from server.operator import Operator
from shared.systemd import argument, literal, owner, word

UNIT = "tacit-server.service"
COMPOSE = "compose.yaml"

_PROXY = """\
# Written from server.toml by tacit server init and renew: change it there.
# The one door to partners. It passes the calls of Flower's fleet API and nothing else:
# the control API on the same port has no authentication, so SuperLink listens on
# loopback alone. tacit server start runs it; by hand, paths being relative to -p:
#   nginx -p {folder} -c {folder}/nginx.conf
pid state/nginx.pid;
error_log state/logs/nginx.log error;
worker_processes 1;
{user}events {{ worker_connections 1024; }}
http {{
  access_log off;  # every site asks every few seconds
  server_tokens off;
  client_body_temp_path state/nginx/body;
  proxy_temp_path state/nginx/proxy;
  fastcgi_temp_path state/nginx/fastcgi;
  uwsgi_temp_path state/nginx/uwsgi;
  scgi_temp_path state/nginx/scgi;

  upstream superlink {{
    server 127.0.0.1:{port};
    keepalive 16;
  }}
  server {{
    listen {public} ssl;
    ssl_certificate tls/server.crt;
    ssl_certificate_key tls/server.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 64m;
    client_header_timeout 30s;
    client_body_timeout 60s;  # between two reads: a slow site is no dead one
    send_timeout 60s;

    # One plain word after the prefix, and the path is built anew: no dots, no escapes.
    location ~ ^/v1/fleet/([a-z-]+)$ {{
      proxy_pass https://superlink/v1/fleet/$1;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_ssl_name localhost;
      proxy_ssl_server_name on;
      proxy_ssl_trusted_certificate tls/ca.crt;
      proxy_ssl_verify on;
      proxy_connect_timeout 5s;
      proxy_send_timeout 60s;
      proxy_read_timeout 60s;
    }}
    location / {{ return 404; }}
  }}
}}
"""
_AS_ROOT = """\
user root;  # the folder is root's own; better run all as an account without rights
"""
_UNIT = """\
# Runs this server at every start of the machine. To install it:
#   sudo cp {unit} /etc/systemd/system/ && sudo systemctl daemon-reload
#   sudo systemctl enable --now tacit-server
[Unit]
Description=Tacit server {name}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User={owner}
WorkingDirectory={directory}
ExecStart={program} server start {argument}
Environment=FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
Restart=on-failure
# From 5 seconds to 5 minutes in 8 steps; systemd before 254 stays at 5 seconds.
RestartSec=5
RestartSteps=8
RestartMaxDelaySec=300
# Bad settings (exit code 2) wait for a person.
RestartPreventExitStatus=2
TimeoutStopSec=90
UMask=0077
# The rest of the machine is read-only.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={folder}
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""
_COMPOSE = """\
# Runs this server in a container, built from source that you have reviewed:
#   TACIT_SOURCE=/path/to/tacit docker compose up --detach --build
# Tacit's tests read this file but start no container: try it before you rely on it.
# The folder is mounted, and is never part of the image or of its build. Only the proxy
# is reached from outside; to look inside: docker compose exec server tacit server watch
services:
  server:
    build:
      context: ${{TACIT_SOURCE:?the folder of the reviewed source}}
      dockerfile_inline: |
        FROM python:3.11-slim
        RUN apt-get update && apt-get install -y --no-install-recommends nginx-light \\
         && rm -rf /var/lib/apt/lists/*
        COPY . /src
        RUN pip install --no-cache-dir --constraint /src/constraints.txt /src
    command: ["tacit", "server", "start", "/operator"]
    user: "{user}"
    working_dir: /operator
    ports:
      - "{public}:{public}"
    volumes:
      - .:/operator
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


def proxy_text(operator: Operator) -> str:
    """Return the configuration with which nginx passes the fleet API alone."""
    settings = operator.settings
    return _PROXY.format(
        folder=operator.folder,
        user=_AS_ROOT if operator.folder.stat().st_uid == 0 else "",
        port=settings.port,
        public=settings.public,
    )


def unit_text(operator: Operator, program: Path) -> str:
    """Return a hardened systemd unit; ``program`` is the command ``tacit``."""
    return _UNIT.format(
        unit=operator.folder / UNIT,
        name=operator.settings.name,
        owner=owner(operator.folder),
        directory=literal(operator.folder),
        program=argument(program),
        argument=argument(operator.folder),
        folder=word(operator.folder),
    )


def compose_text(operator: Operator) -> str:
    """Return a compose file; its container runs as the folder's owner."""
    state = operator.folder.stat()
    return _COMPOSE.format(
        user=f"{state.st_uid}:{state.st_gid}",
        public=operator.settings.public.rpartition(":")[2],
    )
