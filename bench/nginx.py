"""The receiver of backlogs: nginx with one worker, over HTTP/1.1, and over TLS with HTTP/2.

It answers immediately. Its access log records arrivals, in milliseconds and several dozen at a time, which is
too coarse for latencies: to measure those, nginx only terminates TLS and HTTP/2 in front of the latency
recorder.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from testing.http2_server import certificates
from testing.ports import free_port

_CONFIG = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000; keepalive_timeout 3600s; http2_max_concurrent_streams 1000;
  client_body_buffer_size 1m; client_max_body_size 16m;
  ssl_certificate {certificate}; ssl_certificate_key {key};
  log_format times '$msec';
  access_log off;
  default_type application/json;
  upstream recorder {{ server 127.0.0.1:{receiver}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl http2;
    location = /token {{ return 200 '{token}'; }}
    location / {{ access_log {folder}/times.log times buffer=1k flush=20ms; return 200 '{{}}'; }}
  }}
  server {{
    listen 127.0.0.1:{front} ssl http2;
    location = /token {{ return 200 '{token}'; }}
    location / {{ proxy_pass http://recorder; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
_TOKEN = '{"access_token":"token","expires_in":3600,"token_type":"Bearer"}'


class Arrivals:
    """The arrivals since this object was created."""

    def __init__(self, log: Path) -> None:
        self._file = log.open("rb")
        self._file.seek(0, 2)
        self._rest = b""

    def read(self) -> list[float]:
        """Return the arrival times of new requests, in Unix seconds."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [float(line) for line in lines]

    def close(self) -> None:
        self._file.close()


class Nginx:
    """One nginx with a configuration and a folder of its own."""

    def __init__(self, folder: Path, receiver: int) -> None:
        """`receiver` is the port of the latency recorder."""
        binary = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if binary is None:
            raise SystemExit("no nginx: `bench/peers/install nginx`, or install nginx-light")
        self.binary = binary
        self.folder = folder
        folder.mkdir()
        # Its worker may run as another user.
        folder.chmod(0o755)
        self.ca, certificate, key = certificates(folder)
        plain, tls, front = free_port(), free_port(), free_port()
        self.plain, self.tls = f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}"
        self.front = f"https://127.0.0.1:{front}"
        """Terminates TLS and HTTP/2 in front of the latency recorder."""
        ports = {"plain": plain, "tls": tls, "front": front, "receiver": receiver}
        files = {"folder": folder, "certificate": certificate, "key": key}
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(token=_TOKEN, **ports, **files))
        self._process = subprocess.Popen([binary, "-p", str(folder), "-c", str(config), "-e", "error.log"])
        deadline = time.monotonic() + 10
        while not (folder / "times.log").exists() or not (folder / "nginx.pid").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("nginx did not start: " + (folder / "error.log").read_text()[-500:])
            time.sleep(0.01)

    @property
    def version(self) -> str:
        output = subprocess.run([self.binary, "-v"], capture_output=True, text=True, check=True).stderr
        return output.rpartition("/")[2].strip()

    def arrivals(self) -> Arrivals:
        return Arrivals(self.folder / "times.log")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
