"""A time-stamping authority of the tests' own: openssl behind a loopback HTTP server."""

import contextlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path


def script(directory: Path) -> str:
    """What makes the authority's files in *directory*, for sh."""
    return f"""
set -eu
cd {directory}
cat > tsa.cnf <<'CONF'
[req]
distinguished_name = name
x509_extensions = tsa_ext
prompt = no
[name]
CN = test authority
[tsa_ext]
extendedKeyUsage = critical, timeStamping
keyUsage = critical, digitalSignature
[tsa]
default_tsa = here
[here]
serial = {directory}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_chain = no
CONF
echo 01 > serial
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -config tsa.cnf \\
  -keyout key.pem -out ca.pem 2>/dev/null
"""


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """Make an authority in *directory* and yield where it's asked; its root is `ca.pem`."""
    subprocess.run(["/bin/sh", "-c", script(directory)], check=True, timeout=60)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (directory / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            words = (
                "openssl ts -reply -config tsa.cnf -queryfile query -signer ca.pem -inkey key.pem"
            )
            done = subprocess.run(
                [*words.split(), "-out", "reply"], cwd=directory, capture_output=True, check=True
            )
            assert done.returncode == 0
            body = (directory / "reply").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
