"""Claude MPM's own monitor server, as its daemon runs it: serve.py PORT. Says "serving" once it does."""

import signal
import sys

from claude_mpm.services.monitor.server import UnifiedMonitorServer

server = UnifiedMonitorServer(host="localhost", port=int(sys.argv[1]))
if not server.start():
    sys.exit("Claude MPM's monitor did not start")
print("serving", flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
