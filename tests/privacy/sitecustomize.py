"""Loaded by every Python process under watch: notes what would leave the machine or the folders that were named.

PRIVACY_LOG names the file of the notes, PRIVACY_ALLOWED the folders that may be written to.
"""

import os
import sys

_LOG = os.open(os.environ["PRIVACY_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_ALLOWED = [os.path.realpath(folder) for folder in os.environ["PRIVACY_ALLOWED"].split(os.pathsep)]
_DEVICES = ("/dev/null", "/dev/tty", "/dev/pts", "/dev/shm", "/proc/self")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Where the path, and the descriptor of the folder that it is relative to, stand among an event's arguments.
_CHANGING = {
    "os.mkdir": ((0, 2),), "os.rmdir": ((0, 1),), "os.remove": ((0, 1),), "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),), "os.symlink": ((1, 2),), "os.truncate": ((0, None),), "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),), "os.utime": ((0, 3),), "sqlite3.connect": ((0, None),),
}  # fmt: skip
_NETWORK = {
    "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "urllib.Request",
    "http.client.connect", "ftplib.connect", "smtplib.connect",
}  # fmt: skip
_TO_ADDRESS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_INTERNET = {2, 10, 30}  # AF_INET and AF_INET6 of Linux and macOS


def _note(event, what):
    os.write(_LOG, f"{event} {what!r}\n".encode("utf-8", "replace"))


def _allowed(path, folder):
    if isinstance(path, int):  # a descriptor: opened before, and seen then
        return True
    path = os.fsdecode(path)
    if not os.path.isabs(path):
        above = os.getcwd() if folder in (None, -1) else os.readlink(f"/proc/self/fd/{folder}")
        path = os.path.join(above, path)
    if path.startswith(_DEVICES):
        return True
    # The last part may be a link, which is what would be changed.
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return any(path == one or path.startswith(one + os.sep) for one in _ALLOWED)


def _watch(event, arguments):
    if event in _NETWORK:
        _note(event, arguments)
    elif event in _TO_ADDRESS:
        if int(arguments[0].family) in _INTERNET:
            _note(event, arguments[1:])
    elif event == "open":
        path, mode, flags = arguments
        writes = flags & _WRITING if isinstance(flags, int) else set(mode or "") & set("wax+")
        if writes and not _allowed(path, None):
            _note(event, arguments)
    elif event in _CHANGING:
        for path, folder in _CHANGING[event]:
            if not _allowed(arguments[path], None if folder is None else arguments[folder]):
                _note(event, arguments)


sys.addaudithook(_watch)
