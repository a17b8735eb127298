"""Asks a monitor over HTTP: ask.py URL CORPUS.json

The corpus is a list of {"method", "path", "body" or "hex"}, the body as text or as hexadecimal digits; for each a line {"status", "type", "body"} is printed, the body as JSON
where it is some.
"""

import http.client
import json
import sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
with open(sys.argv[2]) as file:
    corpus = json.load(file)
for request in corpus:
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    body = bytes.fromhex(request["hex"]) if "hex" in request else request.get("body", "").encode()
    connection.request(request["method"], request["path"], body or None)
    answer = connection.getresponse()
    text = answer.read()
    try:
        text = json.loads(text)
    except ValueError:
        text = text.decode("utf-8", "replace")
    print(json.dumps({"status": answer.status, "type": answer.getheader("Content-Type"), "body": text}), flush=True)
    connection.close()
