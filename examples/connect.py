#!/usr/bin/env python3
"""Brings a held client up and logs in: connect.py SOCKET NAME PASSWORD-FILE

What a user interface does, without the windows. Ends when the tunnel is up, with status 0, or when the login is refused.
"""

import socket
import sys


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main(path, name, password_file):
    with open(password_file, encoding="utf-8") as lines:
        password = lines.readline().rstrip("\n")
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    stream = connection.makefile("rw", encoding="utf-8", newline="\n")

    def say(*lines):
        for line in lines:
            print(line, file=stream)
        stream.flush()

    say("state on")
    for line in stream:
        line = line.rstrip("\r\n")
        if line.startswith(">HOLD:"):
            say("hold release")
        elif line.startswith(">PASSWORD:Need 'Auth'"):
            say(f'username "Auth" {quoted(name)}', f'password "Auth" {quoted(password)}')
        elif line.startswith(">PASSWORD:Verification Failed"):
            return "the login was refused"
        elif line.startswith(">STATE:"):
            state = line.split(",")[1]
            print(state, flush=True)
            if state == "CONNECTED":
                return 0
    return "culvert ended"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
