"""Claude MPM's own monitor server, as its package ships it: server.py PORT.

Its command line would fork a daemon with a PID file; the class behind it is the same and stays in this process.
"""

import signal
import sys

from claude_mpm.services.monitor.server import UnifiedMonitorServer

server = UnifiedMonitorServer(host="127.0.0.1", port=int(sys.argv[1]))
if not server.start():
    sys.exit("Claude MPM's monitor did not start")
signal.sigwait({signal.SIGTERM, signal.SIGINT})
