#!/usr/bin/env python3
"""Decides logins of a server with `management-client-auth`: admit.py SOCKET USERS

USERS has lines `name password [options]`; the options go to the client as those of its ccd file would, separated by `;`.
Needs no library. A real one compares hashes and asks a directory; the conversation stays the same.
"""

import hmac
import socket
import sys


def users(path):
    table = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            name, password, *options = line.rstrip("\n").split(" ", 2)
            table[name] = (password, options[0].split(";") if options else [])
    return table


def decide(event, env, table):
    """Returns the lines that answer a login."""
    cid, kid = event.split(",")[1:3]
    password, options = table.get(env.get("username", ""), (None, []))
    if password is None or not hmac.compare_digest(password, env.get("password", "")):
        return [f'client-deny {cid} {kid} "wrong name or password" "Wrong name or password"']
    return [f"client-auth {cid} {kid}", *options, "END"]


def main(path, users_file):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    stream = connection.makefile("rw", encoding="utf-8", newline="\n")
    event, env = None, {}
    for line in stream:
        line = line.rstrip("\r\n")
        if line.startswith(">CLIENT:ENV,END"):
            if event.split(",")[0] in ("CONNECT", "REAUTH"):
                for answer in decide(event, env, users(users_file)):
                    print(answer, file=stream)
                stream.flush()
        elif line.startswith(">CLIENT:ENV,"):
            name, _, value = line.removeprefix(">CLIENT:ENV,").partition("=")
            env[name] = value
        elif line.startswith(">CLIENT:"):
            event, env = line.removeprefix(">CLIENT:"), {}
        if line.startswith(("SUCCESS", "ERROR", ">CLIENT:ESTABLISHED")):
            print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
