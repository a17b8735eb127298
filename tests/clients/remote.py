"""What a client on another machine gets, with the token and without: one JSON object of names and outcomes.

    remote.py ADDRESS TOKEN
"""

import json
import sys
import urllib.error
import urllib.request

address, token = sys.argv[1:]
base = f"http://{address}:8765"


def status(path, said=None, body=None, host=None):
    request = urllib.request.Request(base + path, data=body)
    if said:
        request.add_header("Authorization", f"Bearer {said}")
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        if error.code == 401:
            assert error.headers["WWW-Authenticate"].startswith("Bearer"), error.headers
        return error.code


print(json.dumps({
    "health without": status("/health"),
    "health with": status("/health", token),
    "post without": status("/api/events", body=b"{}"),
    "post with": status("/api/events", token, b"{}"),
    "post with a wrong one": status("/api/events", token[::-1], b"{}"),
    "metrics without": status("/metrics"),
    "page without": status("/"),
    "ready without": status("/ready"),
    "by another name": status("/health", token, host="evil.example"),
}))
