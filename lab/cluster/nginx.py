"""An nginx that balances requests over servers on this machine."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

#: The user only matters to root, as whom nginx would otherwise serve as somebody who cannot read its folder.
CONFIGURATION = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format requests '$status $request_method $uri';
    access_log {folder}/requests.log requests;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 100m;
    upstream servers {{
        {servers}
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""
#: What differs between two requests for the same: ids, and the names of DAGs, runs and tasks.
_NAMES = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}"), "{id}"),
    (re.compile(r"/execution/xcoms/[^/]+/[^/]+/[^/]+/"), "/execution/xcoms/{dag}/{run}/{task}/"),
    (re.compile(r"/dags/[^/]+/"), "/dags/{dag}/"),
)


def explain_lack() -> str | None:
    """Return what this machine lacks for nginx, or None if it lacks nothing."""
    return None if find_nginx() else "nginx is not installed. On Debian or Ubuntu: apt-get install nginx"


def find_nginx() -> str | None:
    """Return the path of the program; Debian's is in a folder that only root has on its PATH."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


def write_configuration(folder: Path, port: int, server_ports: Sequence[int]) -> list[str]:
    """
    Write the configuration into a new folder, and return the command that runs nginx with it.

    :param port: The port to listen on.
    :param server_ports: The ports of the servers.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "nginx.conf"
    servers = "\n        ".join(f"server 127.0.0.1:{number};" for number in server_ports)
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(CONFIGURATION.format(user=user, folder=folder, servers=servers, port=port))
    return [str(find_nginx()), "-e", "stderr", "-p", str(folder), "-c", str(path), "-g", "daemon off;"]


def count_requests(lines: Iterable[str]) -> Counter[str]:
    """Return the number of requests in an access log by method and path, without ids and names."""
    counts: Counter[str] = Counter()
    for line in lines:
        _, _, request = line.strip().partition(" ")
        for pattern, name in _NAMES:
            request = pattern.sub(name, request)
        counts[request] += 1
    return counts
