"""Rucio's REST interface: the application that Rucio deploys, in a small server instead of Apache.

    serve.py PORT [SERVER_PEM AUTHORITY_PEM]    with the two files: by TLS, where a client may show a certificate
"""

import ssl
import sys

from rucio.web.rest.flaskapi.v1.main import application
from werkzeug.serving import WSGIRequestHandler, run_simple


class Handler(WSGIRequestHandler):
    # Connections stay open, as Apache leaves them.
    protocol_version = "HTTP/1.1"

    def make_environ(self):
        """What Apache's mod_ssl says of a client's certificate, which the handshake has verified."""
        environ = super().make_environ()
        shown = getattr(self.connection, "getpeercert", dict)()
        if shown:
            names = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}
            parts = [f"{names.get(key, key)}={value}" for ((key, value),) in shown["subject"]]
            environ["SSL_CLIENT_S_DN"] = ",".join(reversed(parts))
            environ["SSL_CLIENT_VERIFY"] = "SUCCESS"
        return environ


def main(port, server=None, authority=None):
    context = None
    if server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server)
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    run_simple("127.0.0.1", int(port), application, threaded=True, ssl_context=context, request_handler=Handler)


if __name__ == "__main__":
    main(*sys.argv[1:])
