"""Imported by the server that workers are forked from, and by nothing else.

SIGTERM goes to a whole process group where a system shuts down. If it ended the server, it would
end the workers, and then the run could not come to where it saves.
"""

import os
import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
