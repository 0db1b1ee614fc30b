"""Run a process that reads many files, and notice when it crashes or hangs."""

import json
import queue
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent


def read_all(entries, folder, *, patience=30.0, script="corrupt_reading.py"):
    """Return what the process said of every entry; of one that crashed or hung, ``{"error": "crash" or "hang"}``.

    ``patience`` is how long the process may say nothing: far more than a file may take, which it measures itself.
    """
    results, start = [], 0
    while start < len(entries):
        path = folder / f"entries-{start}.json"
        path.write_text(json.dumps(entries[start:]))
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / script), str(path)], stdout=subprocess.PIPE, text=True
        )
        lines = queue.Queue()
        threading.Thread(
            target=lambda p=process, q=lines: [q.put(x) for x in p.stdout] + [q.put("")], daemon=True
        ).start()
        done = []
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                process.kill()
                done.append({"error": "hang", "text": "", "about": {}})
                break
            if not line:
                if len(done) < len(entries) - start:
                    done.append({"error": "crash", "text": f"exit status {process.wait()}", "about": {}})
                break
            said = json.loads(line)
            if "seconds" in said:
                done.append(said)
        process.wait()
        process.stdout.close()
        results += done
        start += len(done)
    return results
