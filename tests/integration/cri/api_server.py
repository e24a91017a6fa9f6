"""A program that is to kubectl what an API server with a kubelet is.

`api_server.py SOCKET POD CONTAINER`

It knows one pod, "web" with its container "main", asks the CRI for the URLs of streams, and passes
the upgraded connections on. It writes its port to stdout.
"""

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import grpc

from orlop.api.cri import v1

_POD: dict[str, Any] = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"containers": [{"name": "main", "image": "busybox", "stdin": True}]},
    "status": {"phase": "Running"},
}
_RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]}
    ],
}
_ANSWERS = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": _RESOURCES,
    "/api/v1/namespaces/default/pods/web": _POD,
}


class Handler(BaseHTTPRequestHandler):
    """One client of the API."""

    protocol_version = "HTTP/1.1"
    socket_path: ClassVar[str]
    pod: ClassVar[str]
    container: ClassVar[str]

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        verb = target.path.rpartition("/")[2]
        if verb in ("exec", "attach", "portforward"):
            self._pass_on(self._url(verb, parse_qs(target.query)))
            return
        found = _ANSWERS.get(target.path)
        body = json.dumps(found or {"kind": "Status", "code": 404}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def _url(self, verb: str, query: dict[str, list[str]]) -> str:
        flags: dict[str, Any] = {
            name: query.get(name) == ["true"] for name in ("stdin", "stdout", "stderr", "tty")
        }
        if verb == "portforward":
            return self._call("PortForward", v1.PortForwardRequest(pod_sandbox_id=self.pod))
        if verb == "exec":
            request = v1.ExecRequest(container_id=self.container, cmd=query["command"], **flags)
            return self._call("Exec", request)
        return self._call("Attach", v1.AttachRequest(container_id=self.container, **flags))

    def _call(self, method: str, request: Any) -> str:
        with grpc.insecure_channel(f"unix:{self.socket_path}") as channel:
            call = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
            answer = call(request.SerializeToString(), timeout=20)
        url: str = v1.ExecResponse.FromString(answer).url  # all three have the same shape
        return url

    def _pass_on(self, url: str) -> None:
        target = urlsplit(url)
        with socket.create_connection((target.hostname, target.port)) as beyond:
            head = f"{self.command} {target.path} HTTP/1.1\r\n{self.headers}"
            beyond.sendall(head.replace("\r\n", "\n").replace("\n", "\r\n").encode())
            up = threading.Thread(target=_copy, args=(self.connection, beyond), daemon=True)
            up.start()
            _copy(beyond, self.connection)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Be silent."""


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def main(path: str, pod: str, container: str) -> None:
    """Serve until killed."""
    Handler.socket_path, Handler.pod, Handler.container = path, pod, container
    Handler.rbufsize = 0  # what a client sends early stays in its socket
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
