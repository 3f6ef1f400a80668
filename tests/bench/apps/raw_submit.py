"""The floor of a shell submit: one LPUSH over a raw socket, nothing imported that is not needed."""

import socket
import sys

_port, _number = int(sys.argv[1]), sys.argv[2].encode()
with socket.create_connection(("127.0.0.1", _port), timeout=5) as _server:
    _server.sendall(b"*3\r\n$5\r\nLPUSH\r\n$11\r\nfloor:queue\r\n$%d\r\n%s\r\n" % (len(_number), _number))
    if not _server.recv(64).startswith(b":"):
        sys.exit("the server refused the push")
