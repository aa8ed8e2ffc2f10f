"""A server for scripts/load.mjs to measure beside `ufb serve`: sentence-transformers, the requests that wait in one batch.

python scripts/load_peer.py MODEL THREADS
"""

import json
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from sentence_transformers import SentenceTransformer

torch.set_num_threads(int(sys.argv[2]))
model = SentenceTransformer(sys.argv[1], device="cpu")
waiting = queue.Queue()


def work():
    while True:
        batch = [waiting.get()]
        while len(batch) < 32 and not waiting.empty():
            batch.append(waiting.get())
        vectors = model.encode([text for text, _ in batch], batch_size=len(batch), normalize_embeddings=True, show_progress_bar=False)
        for (_, answer), vector in zip(batch, vectors):
            answer.put(vector.tolist())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        answer = queue.Queue()
        waiting.put((json.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"], answer))
        body = json.dumps([answer.get()]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024


threading.Thread(target=work, daemon=True).start()
server = Server(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
